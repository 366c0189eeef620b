//! Draws a QR code (ISO/IEC 18004) with half blocks: two modules to a character cell, small enough for 80x24.

use qrcode::{Color, EcLevel, QrCode};

/// Quiet modules around the code. The standard asks for four; scanners need one or two on a contrasting ground, and
/// four would not leave room for the sentence below the code on a 24-line terminal.
const QUIET: usize = 2;

/// `text` as lines of half blocks, dark on light, or `None` if it is too long for any QR code.
///
/// Upper-case text in the alphanumeric set gets the smaller alphanumeric mode by itself. Error correction is the lowest
/// level: a screen has no scratches.
pub(crate) fn draw(text: &str, colour: bool) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let size = code.width();
    let modules = code.to_colors();
    let dark = |x: usize, y: usize| {
        let (Some(x), Some(y)) = (x.checked_sub(QUIET), y.checked_sub(QUIET)) else { return false };
        x < size && y < size && modules[y * size + x] == Color::Dark
    };
    let side = size + 2 * QUIET;
    let mut lines = Vec::with_capacity(side.div_ceil(2));
    for row in (0..side).step_by(2) {
        let cells = (0..side).map(|x| cell(dark(x, row), dark(x, row + 1), colour));
        let cells: String = cells.collect();
        // Black on white whatever the terminal's theme is: many scanners do not read inverted codes.
        lines.push(if colour { format!("\u{1b}[30;107m{cells}\u{1b}[0m") } else { cells });
    }
    Some(lines)
}

/// One cell. Without colour the terminal is taken to be light on dark, so light modules are what is drawn.
const fn cell(top_dark: bool, bottom_dark: bool, colour: bool) -> char {
    let (top, bottom) = if colour { (top_dark, bottom_dark) } else { (!top_dark, !bottom_dark) };
    match (top, bottom) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest pairing text: key, secret and three addresses in base32.
    #[test]
    fn the_longest_pairing_code_fits_80x24_with_room_for_a_sentence() {
        let text = format!("HONEYLINK:P/{}", "A2".repeat(56))[..123].to_owned();
        let lines = draw(&text, false).unwrap();
        assert!(lines.len() <= 23, "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }

    /// Reads the drawing back module by module: what is on the screen is the code.
    #[test]
    fn the_drawing_is_the_code() {
        let code = QrCode::with_error_correction_level("HONEYLINK:P/ABC", EcLevel::L).unwrap();
        let lines = draw("HONEYLINK:P/ABC", false).unwrap();
        for y in 0..code.width() {
            for x in 0..code.width() {
                let (cx, cy) = (x + QUIET, y + QUIET);
                let c = lines[cy / 2].chars().nth(cx).unwrap();
                let light = if cy % 2 == 0 { matches!(c, '█' | '▀') } else { matches!(c, '█' | '▄') };
                assert_eq!(light, code[(x, y)] == Color::Light, "module {x},{y}");
            }
        }
    }

    #[test]
    fn too_long_a_text_draws_nothing() {
        assert!(draw(&"x".repeat(5_000), false).is_none());
    }
}
