//! Points in time, as findings spell them, and spans between them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds per second.
const MICROS: i64 = 1_000_000;

/// A point in time in UTC, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(i64);

impl Moment {
    /// The current time.
    pub(crate) fn now() -> Self {
        Self::of(OffsetDateTime::now_utc())
    }

    fn of(time: OffsetDateTime) -> Self {
        Self(i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX))
    }

    /// A time by RFC 3339, or a day (its first moment in UTC).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let day = text.len() == 10;
        let parsed = if day {
            OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339)
        } else {
            OffsetDateTime::parse(text, &Rfc3339)
        };
        parsed.ok().map(Self::of)
    }

    /// This much earlier.
    pub(crate) fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// This much later.
    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// The time from `earlier` to here; nothing if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// RFC 3339 in UTC with microseconds, for programs.
    pub(crate) fn rfc3339(self) -> String {
        let seconds = self.0.div_euclid(MICROS);
        let micros = self.0.rem_euclid(MICROS);
        match OffsetDateTime::from_unix_timestamp(seconds) {
            Ok(at) => format!(
                "{}T{:02}:{:02}:{:02}.{micros:06}Z",
                at.date(),
                at.hour(),
                at.minute(),
                at.second()
            ),
            Err(_) => "unknown".to_owned(),
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Date and time in UTC, for people.
impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.rfc3339();
        let text = text.split('.').next().unwrap_or_default();
        f.pad(&text.replace('T', " "))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time by RFC 3339"))
    }
}

/// A span for people: its two largest units, such as `3d 4h` or `12m 5s`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    if seconds == 0 {
        let millis = span.as_millis();
        return if millis == 0 {
            "0s".to_owned()
        } else {
            format!("{millis}ms")
        };
    }
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = units
        .iter()
        .skip(first)
        .take(2)
        .filter(|(count, _)| *count > 0);
    let shown: Vec<_> = shown
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

/// A span as a number with a unit: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    // A century is enough, and no arithmetic on times can overflow with it.
    let seconds = number
        .checked_mul(seconds)
        .filter(|it| *it < 100 * 366 * 86_400)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, expected) in [
            (
                "2026-11-28T10:00:03.5Z",
                Some("2026-11-28T10:00:03.500000Z"),
            ),
            (
                "2026-11-28T10:00:03+02:00",
                Some("2026-11-28T08:00:03.000000Z"),
            ),
            ("2026-11-28", Some("2026-11-28T00:00:00.000000Z")),
            (
                "1969-12-31T23:59:59.9Z",
                Some("1969-12-31T23:59:59.900000Z"),
            ),
            ("2026-13-28", None),
            ("yesterday", None),
            ("", None),
        ] {
            let moment = Moment::parse(text).map(Moment::rfc3339);
            assert_eq!(moment.as_deref(), expected, "{text}");
        }
        let moment = Moment::parse("2026-11-28T10:00:03.5Z").unwrap();
        assert_eq!(moment.to_string(), "2026-11-28 10:00:03");
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_725, "1h 2m"),
            (86_400 + 61, "1d"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(span(Duration::from_millis(20)), "20ms");
    }

    #[test]
    fn spans_are_read() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("7d", Some(7 * 86_400)),
            ("24", None),
            ("h", None),
            ("", None),
            ("-1h", None),
            ("1 h", None),
            ("99999999999999d", None),
            ("1ü", None),
        ] {
            let read = parse_span(text).map(|it| it.as_secs());
            assert_eq!(read, expected, "{text}");
        }
    }
}
