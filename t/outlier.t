# Ejection: a node that fails is left alone by all workers, a share of the nodes stays, and everybody is told.

use lib 't';
use Gateway 'no_plan';

# The first node fails whenever html/fail is there, one in three requests with html/third; the others are well.
our $Nodes = <<'CONF';
split_clients $request_id $third { 40% bad; * ""; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    add_header X-Backend one always;
    location / {
        root html;
        if (-f $document_root/fail) { return 503 "broken\n"; }
        set $failing $third;
        if (!-f $document_root/third) { set $failing ""; }
        if ($failing) { return 503 "broken\n"; }
        return 200 "well\n";
    }
}
CONF

sub Test::Base::Filter::marked {
    my ($name, $there) = @_;
    my $file = Test::Nginx::Socket::html_dir() . "/$name";
    return unlink $file if !$there;
    open my $out, '>', $file or die "$file: $!\n";
    close $out;
}

# How many of so many requests each node answered.
sub Test::Base::Filter::answered {
    my ($count, %seen) = @_;
    $seen{get('/x')->{headers}{'x-backend'}}++ for 1 .. $count;
    return \%seen;
}

sub Test::Base::Filter::metric {
    my $name = shift;
    return get('/metrics')->{body} =~ /^\Q$name\E (\S+)$/m ? $1 : undef;
}

add_block_preprocessor(sub {
    my $block = shift;
    my $rest = $block->rest // '';
    $block->set_value(http_config => $Nodes) if !defined $block->http_config;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
upstreams:
  - name: u
    nodes:
      - {host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}
      - {host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_2}
      - {host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_3}
$rest
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
});

run_tests();

__DATA__

=== passive health is on: no client sees it, no worker asks the node again, and a reload changes nothing
--- request
GET /x
--- after_request eval
sub {
    # A hiccup of the machine makes a node look slow for some seconds.
    ok(until_true(10, sub { (answered(200)->{one} // 0) > 20 }), 'all three answer');
    marked(fail => 1);
    my $seen = burst(400, '/x');
    is_deeply($seen, {200 => 400}, 'tried again elsewhere');
    ok(until_true(2, sub { errors() =~ /\[warn\].*upstream "u": 127\.0\.0\.1:\d+ is ejected for 30 s: it failed again/ }), 'told');
    is(scalar(() = errors() =~ /is ejected/g), 1, 'once');
    is(metric('gateway_upstream_peers{upstream="u",state="ejected"}'), 1, 'gauge');
    is(metric('gateway_upstream_peers{upstream="u",state="available"}'), 2, 'gauge of the others');
    is(metric('gateway_peer_ejections_total{upstream="u"}'), 1, 'counter');
    marked(fail => 0);
    is(answered(300)->{one}, undef, 'left alone though it is well again');
    ok(reload(), 'reload');
    is(answered(300)->{one}, undef, 'after a reload');
    is(metric('gateway_peer_ejections_total{upstream="u"}'), 1, 'the counter lives');
    is(scalar(() = errors() =~ /is ejected/g), 1, 'not told again');
}
--- timeout: 20


=== as patient as the document says
--- rest
    # By turns: who has failed once is hardly asked by weights.
    algorithm: round_robin
    health: {passive: {failures: 2, window: 1s}}
--- request
GET /x
--- after_request eval
sub {
    marked(fail => 1);
    burst(60, '/x');
    ok(until_true(2, sub { errors() =~ /is ejected for 30 s/ }), 'ejected');
    edit('failures: 2', 'failures: 3', sub { errors() =~ /generation 2/ });
    is(answered(200)->{one}, undef, 'an edit changes nothing about who is out');
}


=== nobody is left alone where no share of the nodes may be
--- rest
    max_ejection_percent: 30
    retries: {budget: 100%}
--- request
GET /x
--- after_request eval
sub {
    marked(fail => 1);
    is_deeply(burst(300, '/x'), {200 => 300}, 'the others answer');
    sleep 0.6;
    unlike(errors(), qr/is ejected/, '30 % of three is none');
    is(metric('gateway_upstream_peers{upstream="u",state="ejected"}'), 0, 'gauge');
}


=== an outlier that never fails twice in a row for long
--- rest
    outlier: {error_ratio: 20%, minimum_calls: 20, consecutive_5xx: 10000}
    health: {passive: {failures: 10000}}
    retries: {budget: 100%}
--- timeout: 40
--- request
GET /x
--- after_request eval
sub {
    marked(third => 1);
    my $until = time + 30;
    burst(40, '/x') while time < $until && errors() !~ /is ejected/;
    like(errors(), qr/is ejected for 30 s: it fails more often than outlier\.error_ratio and than its peers/, 'told why');
    is(answered(300)->{one}, undef, 'left alone');
}


=== misconfigured: numbers
--- rest
    max_ejection_percent: 101
--- must_die
--- error_log
upstreams[0].max_ejection_percent: must be at most 100


=== misconfigured: a ratio of nothing
--- rest
    outlier: {error_ratio: 0%}
--- must_die
--- error_log
upstreams[0].outlier.error_ratio: must be above 0%


=== misconfigured: calls that nothing counts
--- rest
    outlier: {minimum_calls: 5}
--- must_die
--- error_log
upstreams[0].outlier.minimum_calls: is of use with `error_ratio` alone, which is missing


=== misconfigured: what is not built, and words of others
--- rest
    health: {active: {path: /}, passive: {max_fails: 3}}
--- must_die
--- error_log
upstreams[0].health.active: not supported yet
our word is `failures`
