//! Trace context between services: `traceparent` of W3C Trace Context (Level 1, version 00).

use std::fmt;

/// What a `traceparent` says: the trace, the caller's span in it, and whether the caller recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Sixteen bytes that are not all zero, the first eight and the last. No number of 128 bits: records of requests
    /// stand where nothing is aligned to more than eight bytes.
    pub id: [u64; 2],
    /// The span; not zero.
    pub span: u64,
    /// Bit 0: the caller may have recorded it.
    pub flags: u8,
}

/// Length of a `traceparent` of version 00, bytes.
pub const LENGTH: usize = 55;

impl Trace {
    /// Reads the header. `None` for what is not valid: all of it is dropped then, as the specification says. Of a later
    /// version that looks alike, what version 00 has is taken.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let head = value.get(..LENGTH)?;
        let [version, id, span, flags] = [head.get(..2)?, head.get(3..35)?, head.get(36..52)?, head.get(53..55)?];
        let is_framed = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let version = number(version)?;
        let is_whole = match value.get(LENGTH) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        if !is_framed || !is_whole || version == 0xff {
            return None;
        }
        let id = number(id)?;
        let trace =
            Self { id: [(id >> 64) as u64, id as u64], span: number(span)? as u64, flags: number(flags)? as u8 };
        (trace.id != [0, 0] && trace.span != 0).then_some(trace)
    }

    /// A trace that begins here.
    #[must_use]
    pub fn begin(random: [u64; 3]) -> Self {
        let [high, low, span] = random;
        Self { id: [high, low.max(1)], span: span.max(1), flags: 1 }
    }

    /// The same trace one service further: `span` is ours.
    #[must_use]
    pub fn continued(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The header's value.
    #[must_use]
    pub fn write(self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [high, low] = self.id;
        hex(text.get_mut(3..19).unwrap_or_default(), high.into());
        hex(text.get_mut(19..35).unwrap_or_default(), low.into());
        hex(text.get_mut(36..52).unwrap_or_default(), self.span.into());
        // Of the flags we know one.
        hex(text.get_mut(53..55).unwrap_or_default(), (self.flags & 1).into());
        text
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.id;
        write!(out, "00-{high:016x}{low:016x}-{:016x}-{:02x}", self.span, self.flags & 1)
    }
}

/// Lower-case hexadecimal digits, as the specification wants them.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn hex(place: &mut [u8], value: u128) {
    let mut rest = value;
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef".get((rest & 15) as usize).copied().unwrap_or(b'0');
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification() {
        let trace = Trace::parse(SPEC).unwrap();
        assert_eq!(trace.id, [0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736]);
        assert_eq!((trace.span, trace.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(&trace.write(), SPEC);
        assert_eq!(trace.to_string().as_bytes(), SPEC);
        assert_eq!(&trace.continued(0xabc).write(), b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-01");
    }

    #[test]
    fn what_is_not_valid_is_dropped() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = [b"cc", &SPEC[2..], b"-what-the-future-will-be-like"].concat();
        assert_eq!(Trace::parse(&later), Trace::parse(SPEC));
        assert_eq!(Trace::parse(&[b"cc", &SPEC[2..]].concat()), Trace::parse(SPEC));
        let flags = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09";
        assert_eq!(&Trace::parse(flags).unwrap().write(), SPEC, "flags that nobody knows are not passed on");
    }
}
