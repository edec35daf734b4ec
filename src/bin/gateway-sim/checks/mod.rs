//! What must always hold, each beside a model of its own.

mod accounts;
mod breakers;
mod limits;
mod places;
mod retries;

pub use accounts::Accounts;
pub use breakers::{Breakers, Pass};
pub use limits::{Limits, Reach};
pub use places::{Rooms, Shares, astray, expected};
pub use retries::{Ejections, Retries};

/// All of them.
#[derive(Default)]
pub struct Checks {
    pub limits: Limits,
    pub breakers: Breakers,
    pub retries: Retries,
    pub ejections: Ejections,
    pub shares: Shares,
    pub rooms: Rooms,
    pub accounts: Accounts,
}
