//! Request ids.

use crate::types::{MILLISECOND, Now};

/// A UUIDv7 (RFC 9562, 5.7) as text: milliseconds since the epoch first, so that ids sort by time, then 74 random
/// bits from `first` and `second`.
#[must_use]
pub fn uuid_v7(now: Now, first: u64, second: u64) -> [u8; 36] {
    let millis = now.wall / MILLISECOND;
    let high = millis << 16 | 0x7000 | first & 0x0fff;
    let low = 0x8000_0000_0000_0000 | second & 0x3fff_ffff_ffff_ffff;
    let value = u128::from(high) << 64 | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (index, byte) in text.iter_mut().enumerate() {
        if !matches!(index, 8 | 13 | 18 | 23) {
            shift -= 4;
            let digit = (value >> shift & 0xf) as u8;
            *byte = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_of_the_rfc() {
        // The example of RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC.
        let now = Now { mono: 0, wall: 0x017F_22E2_79B0 * MILLISECOND };
        let id = uuid_v7(now, 0xCC3, 0x18C4_DC0C_0C07_398F);
        assert_eq!(std::str::from_utf8(&id).unwrap(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }
}
