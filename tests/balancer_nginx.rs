//! The sequences that a running nginx took, by `tests/data/balancer/record.py`, against ours, pick by pick.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::AtomicU64;

use gateway::balancer::{Algorithm, Crc, Member, PickTable, Policy, Rng, Seat, Standing, Statistics, Tried};
use gateway::types::SECOND;
use serde::Deserialize;

#[derive(Deserialize)]
struct Record {
    nginx: String,
    ports: Ports,
    round_robin: Vec<Turns>,
    least_conn: Vec<Turns>,
    keys: Vec<String>,
    hash: Vec<Keyed<u32>>,
    hash_tries: Vec<Keyed<Vec<u32>>>,
    hash_without_key: Turns,
}

#[derive(Deserialize)]
struct Ports {
    answering: u16,
    dead: u16,
}

#[derive(Deserialize)]
struct Turns {
    #[serde(flatten)]
    servers: Servers,
    sequence: Vec<u32>,
}

#[derive(Deserialize)]
struct Keyed<T> {
    #[serde(flatten)]
    servers: Servers,
    chosen: Vec<T>,
}

#[derive(Deserialize)]
struct Servers {
    weights: Vec<u32>,
    #[serde(default)]
    down: Vec<u32>,
    #[serde(default)]
    backup: Vec<u32>,
}

fn record() -> Record {
    let record: Record = serde_json::from_str(include_str!("data/balancer/nginx.json")).unwrap();
    assert!(record.nginx.starts_with("1."));
    record
}

/// Nobody is busy, and who is `down` is not available.
impl Statistics for &Servers {
    fn standing(&self, slot: u32, _: u64) -> Standing {
        Standing { available: !self.down.contains(&slot), ..Standing::UNKNOWN }
    }

    fn seed(&self, _: u32, _: f32, _: u64) {}
}

impl Servers {
    fn table(&self, algorithm: Algorithm, port: u16) -> (Policy, Vec<AtomicU64>) {
        let policy = Policy { algorithm, ..Policy::default() };
        let seats: Vec<Seat> = (0..)
            .zip(&self.weights)
            .map(|(slot, weight)| Seat { weight: *weight, priority: u8::from(self.backup.contains(&slot)), slot })
            .collect();
        let names: Vec<String> = (1..=seats.len()).map(|n| format!("127.0.0.{n}:{port}")).collect();
        let nodes: Vec<Member<'_>> = names
            .iter()
            .zip(&seats)
            .map(|(server, seat)| Member {
                server,
                weight: seat.weight,
                priority: seat.priority,
                first: seat.slot,
                count: 1,
            })
            .collect();
        let words = PickTable::lay(policy, &seats, &nodes);
        PickTable::new(&words, seats.len() as u32).unwrap().under(policy).build(seats, &self, SECOND);
        (policy, words)
    }

    fn first_picks(&self, algorithm: Algorithm, count: usize) -> Vec<u32> {
        let (policy, words) = self.table(algorithm, 80);
        let table = PickTable::new(&words, self.weights.len() as u32).unwrap().under(policy);
        let mut rng = Rng::new(1);
        (0..count).map(|_| table.pick(&self, &Tried::new(), &mut rng, SECOND).unwrap()).collect()
    }

    /// Whom a key is sent to in turn, as one after the other fails.
    fn tries(&self, port: u16, key: &str) -> Vec<u32> {
        let (policy, words) = self.table(Algorithm::Hash, port);
        let crc = Crc::EMPTY.with(key.as_bytes()).finish();
        let table = PickTable::new(&words, self.weights.len() as u32).unwrap().under(policy).keyed(Some(crc));
        let (mut rng, mut tried, mut order) = (Rng::new(1), Tried::new(), vec![]);
        while let Some(place) = table.pick(&self, &tried, &mut rng, SECOND)
            && !self.down.contains(&place)
        {
            tried.insert(place);
            order.push(place);
        }
        order
    }
}

#[test]
fn round_robin_is_nginx_s() {
    let record = record();
    for Turns { servers, sequence } in &record.round_robin {
        assert_eq!(&servers.first_picks(Algorithm::RoundRobin, sequence.len()), sequence, "{:?}", servers.weights);
    }
    let Turns { servers, sequence } = &record.hash_without_key;
    assert_eq!(&servers.first_picks(Algorithm::Hash, sequence.len()), sequence, "a key that is not there");
}

#[test]
fn least_conn_among_the_idle_is_nginx_s() {
    for Turns { servers, sequence } in &record().least_conn {
        assert_eq!(&servers.first_picks(Algorithm::LeastConn, sequence.len()), sequence, "{:?}", servers.weights);
    }
}

#[test]
fn every_key_goes_where_nginx_sends_it() {
    let record = record();
    for Keyed { servers, chosen } in &record.hash {
        for (key, chosen) in record.keys.iter().zip(chosen) {
            // What stood in the request line is what is hashed.
            assert_eq!(servers.tries(record.ports.answering, key)[0], *chosen, "{key} of {:?}", servers.weights);
        }
    }
}

#[test]
fn and_in_the_same_order_when_servers_fail() {
    let record = record();
    for Keyed { servers, chosen } in &record.hash_tries {
        let same = record.keys.iter().zip(chosen).filter(|(key, chosen)| {
            let ours = servers.tries(record.ports.dead, key);
            // Past 20 points of who failed, nginx goes on with a rotation that all requests share.
            assert_eq!(ours[..2], chosen[..2], "{key} of {:?}", servers.weights);
            ours == **chosen
        });
        let same = same.count() as f64 / chosen.len() as f64;
        assert!(same > 0.9, "{same} of {:?}", servers.weights);
    }
}
