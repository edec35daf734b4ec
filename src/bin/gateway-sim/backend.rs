//! Servers behind the gateway: how long they take, how many requests they bear, and how they fail.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::random::Random;

/// A simulated server.
pub struct Server {
    /// Microseconds for one request.
    pub service: u64,
    /// When each of its threads is free.
    threads: BinaryHeap<Reverse<u64>>,
    /// Who would wait longer than this is sent away, microseconds.
    pub patience: u64,
    pub mood: Mood,
    /// Requests that it has answered.
    pub served: u64,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Nobody listens.
    Refuses,
    /// Takes the connection and says nothing.
    Hangs,
    /// This share of its answers is a 5xx, as slow as any.
    Fails(f64),
    /// 500 within a millisecond.
    FailsFast,
    /// So many times its time.
    Slow(f64),
    /// Now well, now refusing, for so many microseconds each.
    Flaps(u64),
}

/// What comes of a try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Served {
    /// A response header after so many microseconds.
    Answer { after: u64, status: u16 },
    /// No connection, after so many microseconds.
    Refused { after: u64 },
    /// Nothing, ever.
    Silence,
}

impl Server {
    pub fn new(service: u64, threads: u32, patience: u64) -> Self {
        let threads = (0..threads.max(1)).map(|_| Reverse(0)).collect();
        Self { service, threads, patience, mood: Mood::Well, served: 0 }
    }

    /// A request arrives at `now`.
    pub fn serve(&mut self, now: u64, random: &mut Random) -> Served {
        let (factor, failing) = match self.mood {
            Mood::Well => (1.0, 0.0),
            Mood::Refuses => return Served::Refused { after: random.between(50, 500) },
            Mood::Hangs => return Served::Silence,
            Mood::Flaps(period) if now / period.max(1) % 2 == 1 => return Served::Refused { after: 100 },
            Mood::Flaps(_) => (1.0, 0.0),
            Mood::FailsFast => return Served::Answer { after: random.between(100, 1_000), status: 500 },
            Mood::Fails(share) => (1.0, share),
            Mood::Slow(factor) => (factor, 0.0),
        };
        let service = random.service((self.service as f64 * factor) as u64);
        let status = match random.chance(failing) {
            true => random.pick(&[500, 502, 503]).copied().unwrap_or(500),
            // Now and then what is asked for is not there, which is nobody's fault.
            false if random.chance(0.02) => 404,
            false => 200,
        };
        let Some(Reverse(free)) = self.threads.pop() else { return Served::Silence };
        let start = free.max(now);
        if start - now > self.patience {
            self.threads.push(Reverse(free));
            return Served::Answer { after: 1_000, status: 503 };
        }
        // Who goes away leaves the server working for nobody.
        self.threads.push(Reverse(start + service));
        self.served += 1;
        Served::Answer { after: start + service - now, status }
    }
}

impl Mood {
    /// Something that goes wrong.
    pub fn trouble(random: &mut Random) -> Self {
        match random.below(7) {
            0 => Self::Refuses,
            1 => Self::Hangs,
            2 => Self::Fails(0.2 + random.fraction() * 0.8),
            3 => Self::FailsFast,
            4 => Self::Slow(3.0 + random.fraction() * 30.0),
            5 => Self::Flaps(random.between(200_000, 5_000_000)),
            _ => Self::Fails(1.0),
        }
    }
}
