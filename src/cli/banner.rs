//! What a person sees first: where it listens, and what to try.

use holdline::server::LocalAddr;

/// The lines that are printed once it listens.
pub(crate) fn lines(addresses: &[LocalAddr]) -> String {
    let mut text = String::new();
    for address in addresses {
        text.push_str(&format!("listening on {address}\n"));
    }
    let first = addresses.first();
    let (curl, page) = match first {
        Some(LocalAddr::Unix(path)) => {
            (format!("curl --unix-socket {} ", path.display()), "http://localhost".to_owned())
        }
        Some(address) => ("curl ".to_owned(), reachable(&address.to_string())),
        None => return text,
    };
    text.push_str(&format!(
        "\n  listen    {curl}-N -H 'Accept: text/event-stream' {page}/channels/demo\n  \
           publish   {curl}-d 'hello' {page}/channels/demo\n  \
           poll      {curl}'{page}/poll?channel=demo&since=earliest'\n"
    ));
    if !matches!(first, Some(LocalAddr::Unix(_))) {
        text.push_str(&format!("  watch     {page}/\n"));
    }
    text.push('\n');
    text
}

/// "Every interface" is no address to connect to.
fn reachable(url: &str) -> String {
    url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}
