//! Overload: how many requests an upstream can be at work on before more of them only make all of them slower.
//!
//! Nobody knows that number beforehand, and it changes. It shows in the latency: up to the knee more requests at once
//! take no longer, beyond it each one waits for the others. So the limit follows a *gradient*, as that of TCP Vegas and
//! of its successors does: after each [`Window`] it is multiplied by something between 3/4 and 3/2 that hangs on
//! `tolerance x baseline / latency`, the latency being the window's mean time to the response header and the baseline
//! what the upstream takes when it is not pressed.
//!
//! **The baseline is the weak point of all such limits.** If it follows a rising latency, a slow overload is learnt as
//! normal and the limit is none; if it never rises, an upstream that became slower for good is starved. Here it falls with
//! any better window, and rises in one case alone: when the limit is at `min` already and latency is still above what is
//! tolerated. What an upstream takes with the fewest requests at once is its own doing, not that of our queue.
//!
//! The limit grows only while it is used: one that nobody came near says nothing about what is beyond.
//!
//! Requests count from the pick of their first peer to the response header, which is the time that is measured; what
//! streams after that, WebSockets and slow uploads before it are no load in this sense. A try that fails quickly is no
//! sample: failing fast must not look fast.
//!
//! All of it is values: [`State`], [`Samples`] and [`Window`], one word each, and functions from one to the next;
//! `state::tables::overload` keeps them for all workers.

mod limit;
mod settings;
mod window;

pub use limit::{State, admits, share};
pub use settings::{ArchivedOverload, Mode, Overload};
pub use window::{SAMPLES_MIN, Samples, Window};
