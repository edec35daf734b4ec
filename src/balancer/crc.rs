/// CRC-32 as zlib and nginx compute it (polynomial 0xEDB88320), byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc(u32);

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        #[allow(clippy::indexing_slicing)]
        {
            table[index] = value;
        }
        index += 1;
    }
    table
};

impl Crc {
    /// Of nothing.
    pub const EMPTY: Self = Self(u32::MAX);

    /// With `bytes` behind what there is.
    #[must_use]
    #[inline]
    pub fn with(self, bytes: &[u8]) -> Self {
        let step =
            |crc: u32, byte: &u8| TABLE.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or_default() ^ crc >> 8;
        Self(bytes.iter().fold(self.0, step))
    }

    /// The checksum.
    #[must_use]
    #[inline]
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

/// So that an address is hashed as the text that it has, without the text.
impl std::fmt::Write for Crc {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        *self = self.with(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        for (text, expected) in
            [("", 0), ("123456789", 0xcbf4_3926), ("The quick brown fox jumps over the lazy dog", 0x414f_a339)]
        {
            assert_eq!(Crc::EMPTY.with(text.as_bytes()).finish(), expected, "{text}");
        }
        assert_eq!(Crc::EMPTY.with(b"12345").with(b"6789").finish(), 0xcbf4_3926);
    }
}
