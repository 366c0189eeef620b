//! A folder arrives as it was: empty folders, names of any script, programs that stay programs.

use std::os::unix::fs::PermissionsExt as _;

use crate::host::names_in;
use crate::net::Lan;
use crate::tree;

#[test]
fn a_folder_arrives_as_it_was() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let source = lan.scratch().join("holiday");
    std::fs::create_dir_all(source.join("nothing in here")).unwrap();
    std::fs::create_dir_all(source.join("a/b/c")).unwrap();
    std::fs::write(source.join("a/b/c/Grüße \u{1F41D} 写真.txt"), "hello").unwrap();
    std::fs::write(source.join("empty"), "").unwrap();
    std::fs::write(source.join("run.sh"), "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(source.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    tree::write_large(&source.join("a/film.bin"), 5);

    ann.up();
    bob.up();
    ann.pair(&bob);
    let into = lan.scratch().join("arrived");
    let into_text = into.to_str().unwrap();
    let mut receiving = bob.start(&["receive", "--accept", "all", "--into", into_text, "--once", "--json"]);
    receiving.event("ready");
    let sent = ann.run(&["send", source.to_str().unwrap(), "--to", "bob", "--json"]).ok();
    let (sent, received) = (sent.last().clone(), receiving.end(crate::PATIENCE).ok().last().clone());

    assert_eq!(sent["ok"], true, "{sent}");
    assert_eq!(sent["blake3"], received["blake3"]);
    assert_eq!(sent["path"]["rung"], "direct/lan", "{sent}");
    let bytes = 5 * tree::MIB + "hello".len() as u64 + "#!/bin/sh\nexit 0\n".len() as u64;
    assert_eq!((&sent["bytes"], &received["bytes"]), (&bytes.into(), &bytes.into()));
    assert_eq!(received["saved"][0], into.join("holiday").to_str().unwrap());
    assert_eq!(names_in(&into), ["holiday"], "nothing else is left there");
    assert!(tree::read(&into.join("holiday")) == tree::read(&source), "the trees differ");

    // A second time: what is there is not touched.
    let again = ann.run(&["send", source.join("run.sh").to_str().unwrap(), "--to", "bob", "--json"]).ok();
    assert_eq!(again.last()["ok"], true);
    ann.run(&["send", source.join("run.sh").to_str().unwrap(), "--to", "bob", "--json"]).ok();
    assert_eq!(bob.received().len(), 2, "the second copy has a name of its own: {:?}", bob.received());
}
