//! The time of a line: RFC 3339 in UTC with milliseconds. All but the last digits are the same for a second.

/// Shows instants, and remembers the last second that it was asked for.
#[derive(Clone, Debug)]
pub struct Clock {
    second: u64,
    text: [u8; 24],
}

impl Default for Clock {
    fn default() -> Self {
        // No second that anybody asks for first.
        Self { second: u64::MAX, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Clock {
    /// `wall`, microseconds since 1970.
    pub fn show(&mut self, wall: u64) -> &[u8] {
        let second = wall / 1_000_000;
        if second != self.second {
            self.second = second;
            self.date(second);
        }
        self.digits(20, 3, wall / 1_000 % 1_000);
        &self.text
    }

    #[cold]
    fn date(&mut self, second: u64) {
        let (day, time) = (second / 86_400, second % 86_400);
        // Days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
        let days = day + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let moon = (5 * of_year + 2) / 153;
        let month = if moon < 10 { moon + 3 } else { moon - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        self.digits(0, 4, year);
        self.digits(5, 2, month);
        self.digits(8, 2, of_year - (153 * moon + 2) / 5 + 1);
        self.digits(11, 2, time / 3_600);
        self.digits(14, 2, time / 60 % 60);
        self.digits(17, 2, time % 60);
    }

    fn digits(&mut self, from: usize, count: usize, value: u64) {
        let mut rest = value;
        for digit in self.text.get_mut(from..from + count).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        let mut clock = Clock::default();
        for (wall, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_001_000, "2024-02-29T00:00:00.001Z"),
            (1_767_225_599_500_000, "2025-12-31T23:59:59.500Z"),
            (1_767_225_600_000_000, "2026-01-01T00:00:00.000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(std::str::from_utf8(clock.show(wall)).unwrap(), text);
            assert_eq!(std::str::from_utf8(clock.show(wall)).unwrap(), text, "again");
        }
    }
}
