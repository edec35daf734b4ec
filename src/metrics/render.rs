//! From shards to text.

use std::sync::atomic::AtomicU64;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Summary};

use super::OTHER;
use super::histogram::BOUNDS;
use super::sums::{Durations, Sums};
use crate::types::Id;

/// From ids to names. `None`: nobody has that name any more, and the numbers go to [`OTHER`].
pub trait Names {
    /// The route with this id slot and this low half of its birth.
    fn route(&self, slot: u32, birth: u16) -> Option<&str>;
    /// The limiter with this id.
    fn rule(&self, id: Id) -> Option<&str>;
    /// The route with this id and its variant with this key.
    fn variant(&self, _route: Id, _key: u64) -> Option<(&str, &str)> {
        None
    }
    /// The upstream and the `host:port` of the peer with the key whose [`Series::PEER_KEY`](super::Series::PEER_KEY)
    /// bits these are.
    fn peer(&self, key: u64) -> Option<(&str, &str)>;
}

/// What is not counted but looked at when the text is made.
#[derive(Clone, Debug, Default)]
pub struct Gauges<'a> {
    /// The generation in use; 0 = none.
    pub generation: u32,
    /// Whether it is not what the document says.
    pub degraded: bool,
    /// Seconds since it was published.
    pub age: f64,
    /// Tables of the region by name, and how full they are, 0 to 1.
    pub fill: Vec<(&'a str, f64)>,
    /// Breakers.
    pub breakers: Vec<BreakerGauge<'a>>,
    /// Upstreams.
    pub upstreams: Vec<UpstreamGauge<'a>>,
    /// Routes that let in so many requests at a time, and how many are under way.
    pub in_flight: Vec<(&'a str, u32)>,
    /// Shares of variants.
    pub canaries: Vec<CanaryGauge<'a>>,
    /// Key sets by the name of their `auth` entry, and seconds since each was last confirmed.
    pub key_sets: Vec<(&'a str, f64)>,
    /// The log, where one is written.
    pub log: Option<LogGauge>,
}

/// How the log stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogGauge {
    /// Lines in the file.
    pub written: u64,
    /// Lines that found no room on their way there.
    pub dropped: u64,
    /// Bytes on their way.
    pub waiting: u64,
    /// How much of the room for them they take, 0 to 1.
    pub fill: f64,
}

/// The breaker of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerGauge<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// 0 closed, 1 open, 2 half-open.
    pub state: u8,
    /// Whether somebody has it so, whatever its upstream does.
    pub forced: bool,
}

/// How one upstream stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpstreamGauge<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// How many peers it has …
    pub peers: u32,
    /// … of which so many are ejected.
    pub ejected: u32,
    /// Ejections so far.
    pub ejections: u64,
    /// Its load, where it is measured.
    pub load: Option<LoadGauge>,
}

/// How much an upstream has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadGauge {
    /// How many requests may wait for a response header …
    pub limit: f64,
    /// … and how many do.
    pub in_flight: u32,
    /// Requests above the limit so far.
    pub shed: u64,
}

/// The share of one variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryGauge<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The variant's.
    pub variant: &'a str,
    /// 0 to 1.
    pub share: f64,
}

/// Sums `shards` and writes everything in Prometheus' text format, version 0.0.4. Not for the request path: it
/// allocates, and takes some microseconds a series.
pub fn render<'s>(
    shards: impl IntoIterator<Item = &'s [AtomicU64]>,
    names: &dyn Names,
    gauges: &Gauges,
) -> Result<String, prometheus::Error> {
    let mut sums = Sums::default();
    for shard in shards {
        sums.add(shard, names);
    }
    let mut text = String::new();
    for family in families(sums, gauges) {
        family.write(&mut text)?;
    }
    Ok(text)
}

fn families(sums: Sums, gauges: &Gauges) -> Vec<Family> {
    let requests = sums.requests.into_iter().map(|((route, method, status), count)| {
        let status = status.map_or_else(|| OTHER.to_owned(), |status| format!("{status:03}"));
        counter(&[("route", route), ("method", method), ("status", &status)], count)
    });
    let durations = sums
        .durations
        .into_iter()
        .map(|((route, method), durations)| histogram(&[("route", route), ("method", method)], &durations));
    let upstreams = sums
        .upstreams
        .into_iter()
        .map(|((upstream, peer), durations)| histogram(&[("upstream", upstream), ("peer", peer)], &durations));
    let limited =
        sums.limited.into_iter().map(|((route, rule), count)| counter(&[("route", route), ("rule", rule)], count));
    let variants: Vec<_> = sums.variants.into_iter().collect();
    let labels = |key: &(&str, &str)| metric(&[("route", key.0), ("variant", key.1)]);
    let of_variants = |number: fn([u64; 3]) -> u64| -> Vec<Metric> {
        let one = |(key, numbers): &((&str, &str), [u64; 3])| {
            counter(&[("route", key.0), ("variant", key.1)], number(*numbers))
        };
        variants.iter().map(one).collect()
    };
    let waits = variants.iter().map(|(key, [good, _, micros])| {
        let mut summary = Summary::default();
        summary.set_sample_count(*good);
        summary.set_sample_sum(*micros as f64 / 1e6);
        let mut metric = labels(key);
        metric.set_summary(summary);
        metric
    });
    let shares = gauges
        .canaries
        .iter()
        .map(|canary| gauge(&[("route", canary.route), ("variant", canary.variant)], canary.share));
    let shadowed = sums
        .shadowed
        .into_iter()
        .map(|((route, reason), count)| counter(&[("route", route), ("reason", reason)], count));
    let breakers =
        gauges.breakers.iter().map(|breaker| gauge(&[("upstream", breaker.upstream)], f64::from(breaker.state)));
    let peers = gauges.upstreams.iter().flat_map(|one| {
        [("available", one.peers - one.ejected.min(one.peers)), ("ejected", one.ejected)]
            .map(|(state, count)| gauge(&[("upstream", one.upstream), ("state", state)], f64::from(count)))
    });
    let loads = || gauges.upstreams.iter().filter_map(|one| Some(([("upstream", one.upstream)], one.load?)));
    let limits = loads().map(|(labels, load)| gauge(&labels, load.limit));
    let busy = loads().map(|(labels, load)| gauge(&labels, f64::from(load.in_flight)));
    let shed = loads().map(|(labels, load)| counter(&labels, load.shed));
    let ejections = gauges.upstreams.iter().map(|one| counter(&[("upstream", one.upstream)], one.ejections));
    let in_flight = gauges.in_flight.iter().map(|(route, count)| gauge(&[("route", route)], f64::from(*count)));
    let forced = gauges
        .breakers
        .iter()
        .map(|breaker| gauge(&[("upstream", breaker.upstream)], f64::from(u8::from(breaker.forced))));
    let log_fill = gauges.log.map(|log| ("log", log.fill));
    let fill = gauges.fill.iter().copied().chain(log_fill).map(|(table, fill)| gauge(&[("table", table)], fill));
    let lines = gauges.log.iter().flat_map(|log| {
        [("written", log.written), ("dropped", log.dropped)]
            .map(|(result, count)| counter(&[("result", result)], count))
    });
    let waiting = gauges.log.iter().map(|log| gauge(&[], log.waiting as f64));
    let key_sets = gauges.key_sets.iter().map(|(auth, age)| gauge(&[("auth", auth)], *age));
    // A connection that one worker accepted and another closed leaves one count too high and one too low.
    let connections = (sums.connections as i64).max(0) as f64;
    use MetricType::{COUNTER, GAUGE, HISTOGRAM, SUMMARY};
    vec![
        Family::new(
            "gateway_requests_total",
            "Requests by route, method and status; route \"-\" is what reached no route.",
            COUNTER,
            requests,
        ),
        Family::new(
            "gateway_request_duration_seconds",
            "Time from the first byte of a request to the last of its response.",
            HISTOGRAM,
            durations,
        ),
        Family::new(
            "gateway_upstream_duration_seconds",
            "Time from the start of a try to the response header.",
            HISTOGRAM,
            upstreams,
        ),
        Family::new(
            "gateway_active_connections",
            "Client connections at this moment.",
            GAUGE,
            [gauge(&[], connections)],
        ),
        Family::new(
            "gateway_rate_limit_hits_total",
            "Requests that a limiter refused, or would have in shadow mode.",
            COUNTER,
            limited,
        ),
        Family::new("gateway_route_in_flight", "Requests under way on routes with `max_in_flight`.", GAUGE, in_flight),
        Family::new(
            "gateway_canary_requests_total",
            "Requests that a variant of a route served, or failed to.",
            COUNTER,
            of_variants(|[good, errors, _]| good + errors),
        ),
        Family::new(
            "gateway_canary_errors_total",
            "Requests that a variant of a route failed to serve: 5xx other than 501, no connection, no answer in time.",
            COUNTER,
            of_variants(|[_, errors, _]| errors),
        ),
        Family::new(
            "gateway_canary_duration_seconds",
            "Time from the first try to the response header, of what a variant of a route served.",
            SUMMARY,
            waits,
        ),
        Family::new("gateway_canary_share_ratio", "The share of each variant of a route, 0 to 1.", GAUGE, shares),
        Family::new(
            "gateway_shadow_refusals_total",
            "Requests that would have been refused where the gateway is in shadow mode.",
            COUNTER,
            shadowed,
        ),
        Family::new(
            "gateway_circuit_breaker_state",
            "Circuit breakers: 0 closed, 1 open, 2 half-open.",
            GAUGE,
            breakers,
        ),
        Family::new(
            "gateway_upstream_peers",
            "Peers of an upstream by state: available, or ejected as they failed.",
            GAUGE,
            peers,
        ),
        Family::new("gateway_peer_ejections_total", "How often a peer of an upstream was ejected.", COUNTER, ejections),
        Family::new(
            "gateway_circuit_breaker_forced",
            "Circuit breakers that somebody holds in their state: 1; else 0.",
            GAUGE,
            forced,
        ),
        Family::new(
            "gateway_overload_limit",
            "How many requests to an upstream may wait for a response header, as its latency has it now.",
            GAUGE,
            limits,
        ),
        Family::new(
            "gateway_overload_in_flight",
            "How many requests to an upstream wait for a response header.",
            GAUGE,
            busy,
        ),
        Family::new(
            "gateway_overload_shed_total",
            "Requests above the limit of an upstream that were refused, or would have been in shadow mode.",
            COUNTER,
            shed,
        ),
        Family::new(
            "gateway_config_generation",
            "Generation of the configuration in use; 0 = none.",
            GAUGE,
            [gauge(&[], f64::from(gauges.generation))],
        ),
        Family::new(
            "gateway_config_degraded",
            "1 while the document was refused, at the start or as an edit, and an older one is in use.",
            GAUGE,
            [gauge(&[], f64::from(u8::from(gauges.degraded)))],
        ),
        Family::new(
            "gateway_config_age_seconds",
            "Time since the configuration in use was published.",
            GAUGE,
            [gauge(&[], gauges.age)],
        ),
        Family::new(
            "gateway_key_set_age_seconds",
            "Time since the keys of an auth entry were last confirmed by where they come from.",
            GAUGE,
            key_sets,
        ),
        Family::new(
            "gateway_log_lines_total",
            "Lines of the log: written to the file, or dropped as they found no room on their way.",
            COUNTER,
            lines,
        ),
        Family::new("gateway_log_waiting_bytes", "Bytes of the log on their way to the file.", GAUGE, waiting),
        Family::new("gateway_region_fill_ratio", "How full the tables of the shared region are, 0 to 1.", GAUGE, fill),
        Family::new(
            "gateway_panics_total",
            "Panics that were caught; each answered one request with 500.",
            COUNTER,
            [counter(&[], sums.panics)],
        ),
        Family::new(
            "gateway_config_errors_total",
            "Configurations that were refused.",
            COUNTER,
            [counter(&[], sums.config_errors)],
        ),
    ]
}

/// A family whose header is written even when it has no series yet, so that a scrape shows what there can be.
struct Family(MetricFamily);

impl Family {
    fn new(name: &str, help: &str, kind: MetricType, metrics: impl IntoIterator<Item = Metric>) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.into_iter().collect());
        Self(family)
    }

    fn write(&self, text: &mut String) -> Result<(), prometheus::Error> {
        if !self.0.get_metric().is_empty() {
            return TextEncoder::new().encode_utf8(std::slice::from_ref(&self.0), text);
        }
        // The encoder takes a family without series for a mistake. These texts need no escapes.
        let kind = format!("{:?}", self.0.get_field_type()).to_lowercase();
        let name = self.0.name();
        text.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n", self.0.help()));
        Ok(())
    }
}

fn counter(labels: &[(&str, &str)], count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric = metric(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = metric(labels);
    metric.set_gauge(gauge);
    metric
}

fn histogram(labels: &[(&str, &str)], durations: &Durations) -> Metric {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    for (bound, bucket) in BOUNDS.iter().zip(durations.buckets) {
        count += bucket;
        let mut cumulative = Bucket::default();
        cumulative.set_upper_bound(*bound as f64 / 1e6);
        cumulative.set_cumulative_count(count);
        buckets.push(cumulative);
    }
    let mut histogram = Histogram::default();
    // The encoder writes the last bucket, +Inf, from the count.
    histogram.set_sample_count(count + durations.buckets.last().copied().unwrap_or(0));
    histogram.set_sample_sum(durations.micros as f64 / 1e6);
    histogram.set_bucket(buckets);
    let mut metric = metric(labels);
    metric.set_histogram(histogram);
    metric
}

fn metric(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
