//! Publishing over HTTP: what is taken, what is refused after its body was read, media types.

use super::case::{Case, Want, error, status};
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    publishing(&mut table);
    contents_refused(&mut table);
    values_refused(&mut table);
    media_types(&mut table);
    table
}

fn publishing(table: &mut Vec<Case>) {
    let post = || Req::new("POST /channels/routes");
    let publish = || Req::new("POST /publish");
    let object = "{\"channel\":\"routes\",\"text\":\"hi\"}";
    let json = "Content-Type: application/json";
    let rows: [(&str, Req, Want); 18] = [
        (
            "publish",
            post().body("hi"),
            status(202).says("\"channel\":\"routes\"").says("\"subscribers\":0"),
        ),
        ("publish nothing", post(), status(202)),
        ("publish an Event", post().field("Event: price").body(""), status(202)),
        ("publish by a query", Req::new("POST /channels/routes?event=price&ttl=5"), status(202)),
        ("publish with a vast TTL", post().field("TTL: 99999999999999999999999"), status(202)),
        ("publish JSON", post().field(json).body("{\"a\": [1]}"), status(202)),
        ("publish +json", post().field("Content-Type: a/b+json").body("1"), status(202)),
        ("publish JSON 32 deep", post().field(json).body(nested(32)), status(202)),
        (
            "publish a form's type",
            post().field("Content-Type: application/x-www-form-urlencoded").body("{"),
            status(202),
        ),
        (
            "publish lines",
            publish().body(format!("{object}\n\n{object}\n")),
            status(200).says("\"id\""),
        ),
        ("publish no lines", publish(), status(200)),
        (
            "publish lines as a form",
            publish().field("Content-Type: application/x-www-form-urlencoded").body(object),
            status(200),
        ),
        (
            "publish ndjson",
            publish().field("Content-Type: application/x-ndjson").body(object),
            status(200),
        ),
        ("publish an object", publish().field(json).body(object), status(202).says("\"id\"")),
        (
            "publish an object with a charset",
            publish().field("Content-Type: Application/JSON; charset=utf-8").body(object),
            status(202),
        ),
        ("publish a bad line", publish().body("{\n"), status(200).says("\"error\":\"bad_json\"")),
        ("delete", Req::new("DELETE /channels/routes-none"), status(204).lacks("content-length")),
        ("delete, PUT again", Req::new("PUT /channels/routes").body("hi"), status(202)),
    ];
    table.extend(rows.map(|(name, request, want)| Case::new(name, request).want(want).kept()));
}

fn contents_refused(table: &mut Vec<Case>) {
    let post = || Req::new("POST /channels/routes");
    let publish = || Req::new("POST /publish");
    let json = "Content-Type: application/json";
    // All of the body was read, so the connection goes on.
    let rows: [(&str, Req, &str); 6] = [
        ("bad JSON", post().field(json).body("{"), "bad_json"),
        ("empty JSON", post().field(json).body(""), "bad_json"),
        ("bad +json", post().field("Content-Type: a/b+json").body("x"), "bad_json"),
        ("JSON 33 deep", post().field(json).body(nested(33)), "bad_json"),
        ("a bad object", publish().field(json).body("{"), "bad_json"),
        ("an object that is none", publish().field(json).body("[]"), "bad_request"),
    ];
    for (name, request, code) in rows {
        let case = Case::new(name, request).want(error(400, code));
        // `bad_request` is said to close when it is about the head; this one is about the body.
        table.push(if code == "bad_json" { case.kept() } else { case.either() });
    }
}

fn values_refused(table: &mut Vec<Case>) {
    let post = || Req::new("POST /channels/routes");
    let bad = [
        ("TTL", "x"),
        ("TTL", "-1"),
        ("TTL", "1.5"),
        ("TTL", "+5"),
        ("Event", "open"),
        ("Event", "error"),
        ("Event", "binary"),
        ("Event", "holdline-gap"),
        ("Event", "a b"),
        ("Event", "caf\u{e9}"),
        ("Event", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("Idempotency-Key", "a b"),
    ];
    for (field, value) in bad {
        let request = post().field(format!("{field}: {value}")).body("");
        // Whether a bad value of a field that does not frame closes is open.
        let case = Case::new(format!("publish with {field}: {value}"), request);
        table.push(case.want(error(400, "bad_request")).either());
    }
    for query in [
        "ttl=x",
        "ttl=-1",
        "event=open",
        "event=a%0d%0aX-Injected:%20b",
        "ttl=1&ttl=2",
        "event=a%00",
    ] {
        let request = Req::new(&format!("POST /channels/routes?{query}")).body("");
        let case = Case::new(format!("publish with ?{query}"), request);
        table.push(case.want(error(400, "bad_query")).kept());
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn media_types(table: &mut Vec<Case>) {
    for media in [
        "text/plain",
        "text/xml",
        "multipart/form-data; boundary=a",
        "application/octet-stream",
        "a/b",
    ] {
        let request = Req::new("POST /publish").field(format!("Content-Type: {media}")).body("");
        let want = error(415, "media_type")
            .has("accept", "application/json")
            .has("accept", "application/x-ndjson");
        table.push(Case::new(format!("/publish of {media}"), request).want(want).kept());
    }
    for (line, coding) in [
        ("POST /channels/routes", "gzip"),
        ("POST /channels/routes", "br"),
        ("PUT /channels/routes", "deflate"),
        ("POST /channels/routes", "identity"),
        ("POST /publish", "gzip"),
        ("POST /channels/routes", "x"),
    ] {
        let request = Req::new(line).field(format!("Content-Encoding: {coding}"));
        let case = Case::new(format!("{line} in {coding}"), request.clone());
        table.push(case.want(error(415, "media_type")).kept());
        let case = Case::new(format!("{line} in {coding}, with a body"), request.body("hello"));
        table.push(case.want(error(415, "media_type")).either());
    }
    for media in ["text/plain", "image/png", "a/b", "text/html; charset=x", "nonsense"] {
        let request =
            Req::new("POST /channels/routes").field(format!("Content-Type: {media}")).body("hi");
        let case = Case::new(format!("any media type: {media}"), request);
        table.push(case.want(status(202)).kept());
    }
}
