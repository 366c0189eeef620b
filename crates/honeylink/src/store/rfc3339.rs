//! Unix milliseconds as RFC 3339 text in UTC, for the audit log. A calendar crate would be a dependency for one function.

/// `2023-11-14T22:13:20.000Z` for `1_700_000_000_000`.
///
/// The date comes from the day count by the era method of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"
/// (`civil_from_days`): years start in March, so that the leap day is the last day of a year, and 400 years have 146,097
/// days. Times after the year 9999, which the format can not say, become its last millisecond.
pub(super) fn format(unix_ms: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let unix_ms = unix_ms.min(LAST_MS);
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn known_moments_have_their_known_names() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_001, "2023-11-14T22:13:20.001Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms), text);
        }
    }

    #[test]
    fn text_order_is_time_order_across_every_day_of_four_centuries() {
        let mut last = String::new();
        for day in 0..146_097 {
            let text = format(day * 86_400_000);
            assert!(text > last, "{last} then {text}");
            last = text;
        }
    }
}
