//! Days, as people write them: `2027-01-31`.

use time::format_description::well_known::Iso8601;
use time::{Date, Month};

/// Why a text is not a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a day as in `2027-01-31`, found `{text}`{}", self.suffix())]
pub struct DayError {
    text: String,
    /// The day that was likely meant, in the right form.
    pub meant: Option<String>,
}

impl DayError {
    fn suffix(&self) -> String {
        let meant = self.meant.as_ref();
        meant
            .map(|it| format!("; write `{it}`"))
            .unwrap_or_default()
    }

    /// The message without the suggestion.
    pub fn message(&self) -> String {
        format!("expected a day as in `2027-01-31`, found `{}`", self.text)
    }
}

/// Reads a day, `YYYY-MM-DD`.
///
/// # Errors
/// The text is not a day; the error holds the day that was likely meant.
pub fn parse_day(text: &str) -> Result<Date, DayError> {
    let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    let written = match text.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => [(year, 4), (month, 2), (day, 2)]
            .iter()
            .all(|(it, length)| it.len() == *length && digits(it)),
        _ => false,
    };
    let day = Some(text).filter(|_| written);
    day.and_then(|it| Date::parse(it, &Iso8601::DATE).ok())
        .ok_or_else(|| DayError {
            text: text.to_owned(),
            meant: meant(text),
        })
}

/// The day that a text in another form means, if it is unambiguous.
pub(crate) fn meant(text: &str) -> Option<String> {
    let text = text.trim();
    let parts: Vec<_> = text
        .split(['-', '.', '/', ' ', ',', 'T'])
        .filter(|it| !it.is_empty())
        .collect();
    let number = |it: &str| it.parse::<u16>().ok();
    let (year, month, day) = match parts[..] {
        [all] if all.len() == 8 => (
            number(all.get(..4)?)?,
            number(all.get(4..6)?)?,
            number(all.get(6..)?)?,
        ),
        [year, month, day, ..] if year.len() == 4 && number(month).is_some() => {
            (number(year)?, number(month)?, number(day)?)
        }
        [one, two, year, ..] if year.len() == 4 => match (number(one), number(two)) {
            (Some(one), Some(two)) if two > 12 => (number(year)?, one, two),
            // With `/`, people write day and month in either order.
            (Some(one), Some(two)) if one > 12 || !text.contains('/') => (number(year)?, two, one),
            (Some(_), Some(_)) => return None,
            _ => {
                let (name, day) = if month(one).is_some() {
                    (one, two)
                } else {
                    (two, one)
                };
                let day = day.trim_end_matches(|it: char| it.is_ascii_alphabetic());
                (number(year)?, month(name)?, number(day)?)
            }
        },
        _ => return None,
    };
    let named = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let year = i32::from(year);
    // The month may have fewer days.
    let day = u8::try_from(day).ok().filter(|it| (1..=31).contains(it))?;
    let day = day.min(named.length(year));
    (year > 999).then(|| format!("{year}-{month:02}-{day:02}"))
}

/// The number of a month by its name.
fn month(name: &str) -> Option<u16> {
    const NAMES: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let name = name.to_lowercase();
    let at = NAMES.iter().position(|it| name.get(..3) == Some(it))?;
    u16::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_forms_of_a_day_are_understood() {
        for (text, expected) in [
            ("31.12.2026", Some("2026-12-31")),
            ("1.2.2026", Some("2026-02-01")),
            ("31/12/2026", Some("2026-12-31")),
            ("12/31/2026", Some("2026-12-31")),
            ("02/03/2026", None),
            ("2026/12/31", Some("2026-12-31")),
            ("2026-1-5", Some("2026-01-05")),
            ("20261231", Some("2026-12-31")),
            ("2026-12-31T00:00:00Z", Some("2026-12-31")),
            ("2026-12-31 10:00", Some("2026-12-31")),
            ("2026-02-30", Some("2026-02-28")),
            ("31 December 2026", Some("2026-12-31")),
            ("Dec 31st, 2026", Some("2026-12-31")),
            ("2026-13-01", None),
            ("tomorrow", None),
            ("never", None),
            ("", None),
            ("31.12.26", None),
            ("2026", None),
        ] {
            let error = parse_day(text).expect_err(text);
            assert_eq!(error.meant.as_deref(), expected, "{text}");
            if let Some(meant) = error.meant {
                assert!(parse_day(&meant).is_ok(), "{meant}");
            }
        }
        assert!(parse_day("2027-01-31").is_ok());
        assert!(parse_day("2027-W01-1").is_err() && parse_day("+12027-01-01").is_err());
    }
}
