//! What the request read last meant. Programs ask for the same again and again, and many who poll for
//! the same news say the same: what the very bytes of a head mean is found out once.

use super::policy::Policy;
use super::reply::Refused;
use super::routes::{self, Plan};
use crate::config::Config;
use crate::conn::REMEMBERED_BYTES_MAX;
use crate::wire::http::Head;

/// The head that was planned last, whoever sent it, and its plan once it has come twice: who says
/// everything only once pays for no copy.
#[derive(Debug, Default)]
pub(crate) struct LastPlan {
    /// Its bytes. Empty if it is not remembered.
    head: Vec<u8>,
    plan: Option<Box<Plan<'static>>>,
}

/// The plan of one request, for as long as it is carried out.
#[allow(clippy::large_enum_variant, reason = "who asks for something new once pays for no box")]
pub(crate) enum Planned<'b> {
    /// What was kept is taken meanwhile, so that whoever asks in between cannot change it.
    Again(LastPlan, Box<Plan<'static>>),
    New {
        plan: Plan<'b>,
        is_second: bool,
    },
}

impl<'b> Planned<'b> {
    pub(crate) fn plan(&self) -> &Plan<'b> {
        match self {
            Self::Again(_, plan) => plan,
            Self::New { plan, .. } => plan,
        }
    }
}

impl LastPlan {
    /// What a request means. It depends on nothing but the bytes of its head, and on what never changes.
    pub(crate) fn plan<'b>(
        &mut self,
        head: &'b [u8],
        parsed: &Head,
        policy: &Policy,
        config: &Config,
    ) -> Result<Planned<'b>, Refused> {
        let is_again = self.head == head;
        if !is_again {
            self.remember(head);
        } else if let Some(plan) = self.plan.take() {
            return Ok(Planned::Again(std::mem::take(self), plan));
        }
        let plan = routes::plan(head, parsed, policy, config)?;
        Ok(Planned::New { plan, is_second: is_again })
    }

    fn remember(&mut self, head: &[u8]) {
        self.plan = None;
        self.head.clear();
        if head.len() <= REMEMBERED_BYTES_MAX {
            self.head.extend_from_slice(head);
        }
    }

    /// Keeps the plan of a request that has been carried out, if it may well come again.
    pub(crate) fn keep(&mut self, head: &[u8], planned: Planned<'_>) {
        match planned {
            Planned::Again(kept, plan) => *self = Self { plan: Some(plan), ..kept },
            Planned::New { plan, is_second: true } if self.head == head => {
                self.plan = Some(Box::new(plan.into_owned()));
            }
            Planned::New { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::routes::What;
    use crate::wire::http::{self, HeadLimits};

    fn head(target: &str) -> Vec<u8> {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").into_bytes()
    }

    /// The channel that a request is about, and whether its plan had been kept.
    fn ask(last: &mut LastPlan, head: &[u8]) -> (String, bool) {
        let config = Config::default();
        let policy = Policy::new(&config, &[]);
        let parsed = http::parse(head, &HeadLimits::from(&config)).expect("a good head");
        let planned = last.plan(head, &parsed, &policy, &config).expect("a good request");
        assert_eq!(planned.plan().what, What::Publish);
        let channel = planned.plan().options.channels[0].to_string();
        let was_kept = matches!(planned, Planned::Again(..));
        last.keep(head, planned);
        (channel, was_kept)
    }

    #[test]
    fn what_comes_again_is_planned_twice_and_then_kept() {
        let (mut last, a, b) = (LastPlan::default(), head("/channels/a"), head("/channels/b"));
        let heads = [&a, &a, &a, &a, &b, &a, &a, &a];
        let asked: Vec<_> = heads.map(|head| ask(&mut last, head)).into();
        let kept: Vec<_> = asked.iter().map(|(_, was_kept)| *was_kept).collect();
        assert_eq!(kept, [false, false, true, true, false, false, false, true]);
        let channels: Vec<_> = asked.iter().map(|(channel, _)| channel.as_str()).collect();
        assert_eq!(channels, ["a", "a", "a", "a", "b", "a", "a", "a"]);
    }

    #[test]
    fn who_asks_while_a_request_is_carried_out_changes_nothing() {
        let (mut last, a, b) = (LastPlan::default(), head("/channels/a"), head("/channels/b"));
        let config = Config::default();
        let policy = Policy::new(&config, &[]);
        let parsed = http::parse(&a, &HeadLimits::from(&config)).expect("a good head");
        for _ in 0..3 {
            let planned = last.plan(&a, &parsed, &policy, &config).expect("a good request");
            assert_eq!(ask(&mut last, &b).0, "b");
            assert_eq!(ask(&mut last, &b).0, "b");
            last.keep(&a, planned);
            assert_eq!(ask(&mut last, &b).0, "b");
            assert_eq!(ask(&mut last, &a).0, "a");
            assert_eq!(ask(&mut last, &a).0, "a");
        }
    }

    #[test]
    fn a_long_head_is_not_kept() {
        let mut last = LastPlan::default();
        let long = head(&format!("/channels/a?x={}", "y".repeat(REMEMBERED_BYTES_MAX)));
        assert!((0..4).all(|_| ask(&mut last, &long) == ("a".to_owned(), false)));
        assert!(last.head.capacity() <= REMEMBERED_BYTES_MAX);
    }
}
