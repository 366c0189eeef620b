//! A file for somebody who is not paired: a code on one screen, typed on the other, and no daemon anywhere.

use crate::PATIENCE;
use crate::host::names_in;
use crate::net::Lan;
use crate::tree;

#[test]
fn a_code_fetches_a_file_once_and_a_wrong_one_fetches_nothing() {
    let Some((lan, [ann, bob])) = Lan::build(["ann", "bob"]) else { return };
    let (file, into) = (lan.scratch().join("plan.pdf"), lan.scratch().join("fetched"));
    tree::write_large(&file, 3);
    let into_text = into.to_str().unwrap();
    let mut offer = ann.start(&["send", file.to_str().unwrap(), "--json"]);
    let code = offer.event("offer")["code"].as_str().unwrap().to_owned();

    let wrong = bob.run(&["receive", &mistyped(&code), "--into", into_text, "--json"]);
    assert_eq!(wrong.code, Some(7), "{wrong:#?}");
    assert_eq!(wrong.last()["error"]["code"], "wrong_code", "{wrong:#?}");
    assert!(wrong.said.contains("code"), "{}", wrong.said);
    assert_eq!(names_in(&into), [""; 0], "nothing was written");

    let fetched = bob.run(&["receive", &code, "--into", into_text, "--json"]).ok();
    let outcome = fetched.last();
    assert_eq!((&outcome["ok"], &outcome["bytes"]), (&true.into(), &(3 * tree::MIB).into()), "{outcome}");
    let sent = offer.end(PATIENCE).ok();
    assert_eq!(sent.last()["blake3"], outcome["blake3"]);
    assert_eq!(names_in(&into), ["plan.pdf"]);
    assert!(tree::equal(&file, &into.join("plan.pdf")), "the bytes differ");

    // While another offer is open, so that somebody is there to say no.
    let mut other = ann.start(&["send", file.to_str().unwrap(), "--json"]);
    other.event("offer");
    let used = bob.run(&["receive", &code, "--into", into_text, "--json"]);
    assert_eq!(used.code, Some(7), "{used:#?}");
    assert_eq!(names_in(&into), ["plan.pdf"]);
    assert_eq!(ann.json(&["devices"]), serde_json::json!([]), "a one-time code makes nobody a paired device");
}

/// The same number with two words that are in the list, as somebody guessing would type it.
fn mistyped(code: &str) -> String {
    let number = code.split('-').next().unwrap();
    let guesses = ["amber-anchor", "anchor-amber"].map(|words| format!("{number}-{words}"));
    guesses.into_iter().find(|guess| guess != code).unwrap()
}
