//! The console's policy: it lets run what is in the page, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sim::http::Answer;
use crate::sim::{Pace, Sim, clients::request};

fn page(target: &str) -> Answer {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    sim.send(line, &request("GET", target, "Accept: text/html\r\n", b""));
    sim.settle();
    sim.answer(line).expect("an answer")
}

/// What stands between two marks that are there once.
#[track_caller]
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    assert_eq!(text.matches(from).count(), 1, "{from} once");
    let (_, rest) = text.split_once(from).expect("it is there");
    rest.split_once(to).expect("an end").0
}

#[test]
fn the_policy_names_the_script_and_the_style_of_the_page() {
    for target in ["/", "/channels/demo"] {
        let answer = page(target);
        let policy = answer.header("content-security-policy").expect("a policy").to_owned();
        let text = answer.text();
        for (what, part) in [
            ("script-src 'self' ", between(&text, "<script type=\"module\">", "</script>")),
            ("style-src ", between(&text, "<style>", "</style>")),
        ] {
            let wanted = format!("{what}'sha256-{}';", STANDARD.encode(sha256(part.as_bytes())));
            assert!(policy.contains(&wanted), "{target}: say {wanted} in src/engine/console.rs");
        }
        for part in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(policy.split("; ").any(|one| one == part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn the_page_has_nothing_that_its_policy_forbids() {
    let text = page("/").text();
    assert_eq!(text.matches("<script").count(), 1);
    for forbidden in [" style=\"", " onclick=\"", " onload=\"", "innerHTML", "eval(", "<base"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    // It asks no other host for anything: such an address is in it only as the name of a language.
    let hosts = text.match_indices("//").map(|(at, _)| &text[at.saturating_sub(6)..]);
    let hosts = hosts.filter(|rest| rest.starts_with("https:") || rest.starts_with("http:"));
    for host in hosts {
        assert!(host.contains("www.w3.org/2000/svg"), "{}", &host[..60]);
    }
}

/// FIPS 180-4.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let primes: Vec<u32> = (2..312).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    // The first 32 bits of the fractional part of a root.
    let fraction = |root: f64| ((root - root.floor()) * 4_294_967_296.0) as u32;
    let rounds: Vec<u32> = primes.iter().map(|p| fraction(f64::from(*p).cbrt())).collect();
    let mut state: Vec<u32> = primes[..8].iter().map(|p| fraction(f64::from(*p).sqrt())).collect();
    let mut input = bytes.to_vec();
    input.push(0x80);
    input.resize((input.len() + 8).next_multiple_of(64), 0);
    let end = input.len() - 8;
    input[end..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in input.chunks(64) {
        let mut w: Vec<u32> = block
            .chunks(4)
            .map(|four| u32::from_be_bytes(four.try_into().expect("four")))
            .collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = state.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = [v[7], s1, choice, rounds[i], w[i]].into_iter().fold(0, u32::wrapping_add);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[0] = one.wrapping_add(s0).wrapping_add(majority);
            v[4] = v[4].wrapping_add(one);
        }
        state.iter_mut().zip(v).for_each(|(sum, add)| *sum = sum.wrapping_add(add));
    }
    let bytes: Vec<u8> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().expect("32 bytes")
}

#[test]
fn the_hash_is_that_of_the_standard() {
    let hex = |text: &str| sha256(text.as_bytes()).map(|byte| format!("{byte:02x}")).concat();
    assert!(hex("abc").starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c"));
    assert!(hex("").starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    let two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert!(hex(two_blocks).starts_with("248d6a61d20638b8e5c026930c3e6039"));
}
