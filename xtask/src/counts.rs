//! Reads what `cargo test` printed: how many tests ran, which said they could not run here, and what failed.

/// The sum over every test binary and doctest run of one `cargo test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
    /// Lines by which a test says that this machine lacks something it needs: `skipped: <what>`.
    pub(crate) skipped: Vec<String>,
    /// The names of the tests that failed.
    pub(crate) failing: Vec<String>,
    /// Tests that failed among the others and passed when they were run again by themselves.
    pub(crate) unsteady: Vec<String>,
}

impl Counts {
    /// Sums the `test result:` lines of `output` and collects its `skipped:` lines.
    pub(crate) fn read(output: &str) -> Self {
        let mut counts = Self { failing: failed_names(output), ..Self::default() };
        for line in output.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                counts.passed += number_before(result, " passed");
                counts.failed += number_before(result, " failed");
                counts.ignored += number_before(result, " ignored");
            } else if line.starts_with("skipped:") {
                counts.skipped.push(line.to_owned());
            }
        }
        counts
    }
}

/// The names of the tests that failed, from the list that ends the output of each test binary.
fn failed_names(output: &str) -> Vec<String> {
    let (mut names, mut list) = (Vec::new(), Vec::new());
    for line in output.lines() {
        if line == "failures:" {
            // The failing tests' output comes under the same title before the list does.
            list.clear();
        } else if line.starts_with("test result: FAILED") {
            names.append(&mut list);
        } else if line.starts_with("test result:") {
            list.clear();
        } else if let Some(name) = line.strip_prefix("    ") {
            list.push(name.to_owned());
        }
    }
    names
}

fn number_before(text: &str, label: &str) -> u32 {
    let digits = text.split(label).next().and_then(|head| head.rsplit(' ').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// What a person needs to see of a failed `cargo test`: the failing tests' own sections; when there are none (it
/// did not compile), everything.
pub(crate) fn failures_only(output: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for line in output.lines() {
        if line == "failures:" {
            inside = true;
        } else if line.starts_with("test result:") {
            inside = false;
        }
        if inside || line.starts_with("error") {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    if shown.contains("failures:") { shown } else { output.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 2 tests
successes:
skipped: needs the right to make network namespaces
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
failures:
---- two stdout ----
thread 'two' panicked
test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn results_of_all_binaries_are_summed() {
        let skipped = vec!["skipped: needs the right to make network namespaces".to_owned()];
        let sum = Counts { passed: 7, failed: 1, ignored: 1, skipped, ..Counts::default() };
        assert_eq!(Counts::read(OUTPUT), sum);
    }

    #[test]
    fn the_names_of_failed_tests_are_read_from_the_closing_list() {
        let output = "\
failures:
---- a::one stdout ----
    an indented line of its output
failures:
    a::one
    src/lib.rs - b (line 7)
test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
successes:
    c::three
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";
        assert_eq!(failed_names(output), ["a::one", "src/lib.rs - b (line 7)"]);
        assert!(failed_names(OUTPUT).is_empty());
    }

    #[test]
    fn only_the_failing_sections_are_shown() {
        assert_eq!(failures_only(OUTPUT), "failures:\n---- two stdout ----\nthread 'two' panicked\n");
    }

    #[test]
    fn a_compile_error_is_shown_whole() {
        let output = "warning: w\nerror[E0308]: mismatched types\n  --> src/lib.rs:1:1\n";
        assert_eq!(failures_only(output), output);
    }
}
