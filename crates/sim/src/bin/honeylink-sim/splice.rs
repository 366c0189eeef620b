//! Puts what was measured into a page, between two comments.

use std::path::Path;

/// Replaces what stands in the file between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
pub(crate) fn between(path: &Path, name: &str, text: &str) -> Result<(), String> {
    let page = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let fresh = spliced(&page, name, text)
        .ok_or_else(|| format!("{} has no <!-- {name}:begin --> and <!-- {name}:end -->", path.display()))?;
    std::fs::write(path, fresh).map_err(|error| format!("{}: {error}", path.display()))
}

fn spliced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let from = page.find(&begin)? + begin.len();
    let to = from + page[from..].find(&end)?;
    Some(format!("{}{text}{}", &page[..from], &page[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n";
        assert_eq!(spliced(page, "x", "new\n").unwrap(), "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n");
        assert_eq!(spliced(page, "y", "new\n"), None);
    }
}
