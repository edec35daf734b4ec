use rkyv::{Archive, Deserialize, Serialize};

/// What is done about requests above the limit.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing is measured.
    Off,
    /// They are counted.
    Shadow,
    /// They are refused.
    Enforce,
}

/// How the limit of an upstream may move, checked.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Overload {
    /// What is done about requests above it.
    pub mode: Mode,
    /// The limit is never lower, at least 1, …
    pub min: u32,
    /// … and never higher.
    pub max: u32,
    /// So many times the baseline is a latency that the limit settles at, at least 2.
    pub tolerance: u8,
}

impl ArchivedOverload {
    /// The settings in the machine's own byte order.
    #[must_use]
    pub const fn settings(&self) -> Overload {
        Overload {
            mode: match self.mode {
                ArchivedMode::Off => Mode::Off,
                ArchivedMode::Shadow => Mode::Shadow,
                ArchivedMode::Enforce => Mode::Enforce,
            },
            min: self.min.to_native(),
            max: self.max.to_native(),
            tolerance: self.tolerance,
        }
    }
}
