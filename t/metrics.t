# The scrape: what is counted, under which labels, over all workers, as text that Prometheus reads.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');

package Test::Base::Filter {

    # name => {labels => value}; dies at what is no line of the format.
    sub scrape {
        my $text = get('/metrics')->{body};
        my (%found, %kinds);
        for (split /\n/, $text) {
            if (/^# HELP (\w+) \S.*$/) { next }
            if (/^# TYPE (\w+) (counter|gauge|histogram|summary)$/) { die "twice: $1\n" if $kinds{$1}; $kinds{$1} = $2; next }
            /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\[\\n"])*",?)+)\})? (-?[0-9.e+-]+|\+Inf|NaN)$/ or die "no line of the format: $_\n";
            my ($name, $labels, $value) = ($1, $2 // '', $3);
            my $family = $name =~ s/_(?:bucket|sum|count)$//r;
            die "no type: $name\n" if !$kinds{$name} && ($kinds{$family} // '') ne 'histogram';
            die "twice: $name $labels\n" if exists $found{$name}{$labels};
            $found{$name}{$labels} = $value;
        }
        $text =~ /\n\z/ or die "no newline at the end\n";
        return \%found;
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters: [{name: two, key: [global], rate: 1/h, burst: 2}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: f, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}], retries: {attempts: 1}, breaker: {failures: 100}}
routes:
  - {name: all, paths: ["/u/*"], upstream: u, strip_prefix: true}
  - {name: odd-name_1.x, paths: ["/odd"], upstream: u}
  - {name: limited, paths: ["/limited"], upstream: u, limits: [two]}
  - {name: private, paths: ["/private"], upstream: u, auth: [p]}
  - {name: post, paths: ["/post"], methods: [POST], upstream: u}
  - {name: f, paths: ["/status/*"], upstream: f}
YAML
});

run_tests();

__DATA__

=== requests by route, method and status, counted over both workers; durations; limits; breakers
--- request
GET /metrics
--- after_request eval
sub {
    is_deeply(burst(100, '/u/', connections => 10), {200 => 100}, 'a hundred');
    get('/u/', method => $_) for qw(POST PUT HEAD DELETE BREW);
    get($_) for '/odd', ('/limited') x 5, '/private', '/post', ('/status/500') x 3, '/status/404', '/none', '/none2', '/a%2fb';
    ok(until_true(1, sub { scrape()->{gateway_requests_total}{'route="all",method="GET",status="200"'} == 100 }), 'all of them');
    my $found = scrape();
    my %requests = %{$found->{gateway_requests_total}};
    my %want = (
        'route="all",method="GET",status="200"' => 100, 'route="all",method="POST",status="200"' => 1,
        'route="all",method="PUT",status="200"' => 1, 'route="all",method="HEAD",status="200"' => 1,
        'route="all",method="DELETE",status="200"' => 1, 'route="all",method="OTHER",status="200"' => 1,
        'route="odd-name_1.x",method="GET",status="200"' => 1,
        'route="limited",method="GET",status="200"' => 2, 'route="limited",method="GET",status="429"' => 3,
        'route="private",method="GET",status="401"' => 1, 'route="-",method="GET",status="405"' => 1,
        'route="f",method="GET",status="500"' => 3, 'route="f",method="GET",status="404"' => 1,
        'route="-",method="GET",status="404"' => 2, 'route="-",method="GET",status="400"' => 1,
    );
    is_deeply(\%requests, \%want, 'no more and no less');

    is($found->{gateway_request_duration_seconds_count}{'route="all",method="GET"'}, 100, 'durations');
    my $last = -1;
    for (sort { $a->[0] <=> $b->[0] } map { /le="(.*)"/; [$1 eq '+Inf' ? 9e9 : $1, $_] }
        grep { /^route="all",method="GET"/ } keys %{$found->{gateway_request_duration_seconds_bucket}})
    {
        my $count = $found->{gateway_request_duration_seconds_bucket}{$_->[1]};
        cmp_ok($count, '>=', $last, "buckets grow: $_->[0]");
        $last = $count;
    }
    is($last, 100, 'to all of them');
    my ($peer) = grep { /^upstream="u"/ } keys %{$found->{gateway_upstream_duration_seconds_count}};
    like($peer, qr/^upstream="u",peer="127\.0\.0\.1:\d+"$/, 'peers by upstream and address');
    is($found->{gateway_upstream_duration_seconds_count}{$peer}, 100 + 5 + 1 + 2, 'and how often they were asked');
    is_deeply($found->{gateway_rate_limit_hits_total}, {'route="limited",rule="two"' => 3}, 'limits');
    is_deeply($found->{gateway_circuit_breaker_state}, {'upstream="f"' => 0}, 'breakers');
    is($found->{gateway_active_connections}{''}, 0, 'nobody is left');
    is($found->{gateway_config_generation}{''}, 1, 'the generation');
    cmp_ok($found->{gateway_config_age_seconds}{''}, '<', 30, 'and its age');
    is($found->{gateway_panics_total}{''}, 0, 'no panic');
    is_deeply([sort keys %{$found->{gateway_region_fill_ratio}}], [map { qq{table="$_"} } qw(nonces peers rates series tree)], 'tables');
    cmp_ok($_, '<', 0.5, 'with room') for values %{$found->{gateway_region_fill_ratio}};
}
--- response_headers
Content-Type: text/plain; version=0.0.4; charset=utf-8
Cache-Control:


=== a request in flight is seen, and gone when its client is
--- config
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { limit_rate 1; return 200 "0123456789012345678901234567890123456789\n"; }
}
--- request
GET /metrics
--- after_request eval
sub {
    my @clients = map {
        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
        print $client "GET /u/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        $client->flush;
        $client;
    } 1 .. 5;
    ok(until_true(2, sub { scrape()->{gateway_active_connections}{''} == 5 }), 'five');
    close $_ for @clients;
    ok(until_true(3, sub { scrape()->{gateway_active_connections}{''} == 0 }), 'none');
}


=== the same from each worker, over a reload, and after an edit that takes a route away
--- request
GET /metrics
--- after_request eval
sub {
    burst(40, '/u/');
    get('/odd');
    my $key = 'route="all",method="GET",status="200"';
    ok(until_true(1, sub { scrape()->{gateway_requests_total}{$key} == 40 }), 'forty');
    like($_->{body}, qr/^gateway_requests_total\{\Q$key\E\} 40$/m, 'from each worker') for each_worker('/metrics');
    ok(reload(), 'reload');
    is(scrape()->{gateway_requests_total}{$key}, 40, 'after a reload');
    ok(edit(qr/  - \{name: odd-.*\n/, '', sub { get('/odd')->{status} == 404 }), 'a route less');
    is_deeply([grep { /odd/ } map { keys %$_ } values %{scrape()}], [], 'is in no label any more');
    is(scrape()->{gateway_requests_total}{$key}, 40, 'the others stay');
    is(scrape()->{gateway_config_generation}{''}, 2, 'another generation');
}


=== only GET and HEAD; a body is thrown away
--- request eval
["POST /metrics\nabc", "HEAD /metrics", "GET /metrics\nbody"]
--- error_code eval
[405, 200, 200]


=== misconfigured: arguments, and a place where it has no sense
--- config
gateway_metrics;
--- must_die
--- error_log eval
qr/"gateway_metrics" directive is not allowed here in \S+nginx\.conf:\d+/


=== misconfigured: arguments
--- config
location / { gateway_metrics on; }
--- must_die
--- error_log eval
qr/invalid number of arguments in "gateway_metrics" directive in \S+nginx\.conf:\d+/
