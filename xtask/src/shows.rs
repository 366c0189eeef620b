//! `examples` and `demo`: what the documentation tells people to run is run here first.

use crate::check::plain;
use crate::house::House;
use crate::step::Verdict;

/// Runs every example of the library.
pub(crate) fn examples(house: &House) -> Verdict {
    let folder = house.root.join("crates/honeylink/examples");
    let mut names: Vec<String> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| {
                // One file, or a folder with `main.rs`.
                let name = entry.file_name().to_str()?.to_owned();
                let folder = entry.path().join("main.rs").is_file();
                if folder { Some(name) } else { name.strip_suffix(".rs").map(str::to_owned) }
            })
            .collect(),
        Err(error) => return Verdict::failed(format!("cannot list {}: {error}", folder.display())),
    };
    names.sort();
    if names.is_empty() {
        return Verdict::failed("there are no examples");
    }
    for name in names {
        let args = ["run", "--quiet", "--locked", "--package", "honeylink", "--example", &name];
        let shown = plain(house, house.cargo(&args));
        if !matches!(shown, Verdict::Passed) {
            return shown;
        }
    }
    Verdict::Passed
}

/// Runs the demonstrations of the README, in the build that the tests have made already.
pub(crate) fn demo(house: &House) -> Verdict {
    let run = ["run", "--quiet", "--locked", "--package", "honeylink-cli", "--", "demo"];
    for more in [&[][..], &["--qos", "--time", "5"]] {
        let shown = plain(house, house.cargo(&[&run[..], more].concat()));
        if !matches!(shown, Verdict::Passed) {
            return shown;
        }
    }
    Verdict::Passed
}
