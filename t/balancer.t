# Peers: shares, retries, backups, kept connections, and nodes that come and go.

use lib 't';
use Gateway 'no_plan';

# One that can be told to be slow.
$ENV{TEST_NGINX_TOLD} = backend();

# A server that closes a kept connection instead of answering its second request.
$ENV{TEST_NGINX_STALE} = closing_server();

sub closing_server {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "$!\n";
    my $port = $listener->sockport;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        my ($all, %asked) = IO::Select->new($listener);
        while (my @ready = $all->can_read) {
            for my $socket (@ready) {
                if ($socket == $listener) {
                    $all->add(scalar $listener->accept);
                    next;
                }
                if (!sysread($socket, my $text, 65536) || $asked{$socket}++) {
                    delete $asked{$socket};
                    $all->remove($socket);
                    close $socket;
                    next;
                }
                syswrite $socket, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstale\n";
            }
        }
        POSIX::_exit(0);
    }
    close $listener;
    Test::Nginx::Socket::add_cleanup_handler(sub { local $?; kill TERM => $pid; waitpid $pid, 0 });
    return $port;
}

# Takes connections and never says a word.
our $Silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16) or die "$!\n";

our $Config = <<'CONF';
add_header X-Worker $pid always;
add_header X-Tries "$upstream_status" always;
location / { gateway_pass gateway; }
CONF

# A server that always fails, beside the sample server behind port 2.
our $Failing = <<'CONF';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    add_header X-Backend failing always;
    location / { return 503 "failing\n"; }
    location /500 { return 500 "failing\n"; }
}
CONF

# How often each body's first word came in so many requests.
sub Test::Base::Filter::shares {
    my ($count, $path, %options) = @_;
    my %seen;
    $seen{get($path, %options)->{body} =~ /^(\w+)/ ? $1 : 'none'}++ for 1 .. $count;
    return \%seen;
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => $Config) if !defined $block->config;
    $block->set_value(http_config => $Failing) if defined $block->failing;
});

run_tests();

__DATA__

=== weights: three to one of what is equally fast
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1, weight: 3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    my $seen = shares(500, '/');
    my $share = ($seen->{one} // 0) / 500;
    cmp_ok($share, '>', 0.6, 'at least that');
    cmp_ok($share, '<', 0.88, 'and not more');
    is($seen->{one} + $seen->{two}, 500, 'all answered');
}


=== a slow one gets little
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_TOLD}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    get('/slow?100', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
    burst(200, '/', connections => 20);
    my $seen = shares(100, '/');
    get('/heal', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
    cmp_ok($seen->{one}, '>', 80, 'most go to the fast one');
}


=== retries: a GET is tried again elsewhere, a POST is not once it was sent
--- failing
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}]
    retries: {attempts: 2, on: [error, timeout, http_503], budget: 100%}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request eval
["GET /", "POST /\nbody", "HEAD /", "PUT /\nbody", "GET /500"]
--- error_code eval
[200, 503, 200, 200, 500]
--- response_headers eval
["X-Tries: 503, 200\nX-Backend: two", "X-Tries: 503\nX-Backend: failing", "X-Tries: 503, 200\nX-Backend: two",
 "X-Tries: 503, 200\nX-Backend: two", "X-Tries: 500\nX-Backend: failing"]


=== retries of any method, where the document says so
--- failing
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}]
    retries: {attempts: 2, on: [http_503], methods: all, budget: 100%}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
POST /
body
--- response_headers
X-Tries: 503, 200
--- response_body
two POST /


=== when tries end, the last real response is the answer
--- failing
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}],
     retries: {attempts: 2, on: [http_503], budget: 100%}}
  - {name: once, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}],
     retries: {attempts: 1}}
  - {name: lone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 3, on: [http_503], budget: 100%}}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: once, paths: ["/once"], upstream: once}
  - {name: lone, paths: ["/lone"], upstream: lone}
--- request eval
["GET /status/503", "GET /once", "GET /lone"]
--- error_code eval
[503, 503, 503]
--- response_headers eval
["X-Tries: 503, 503\nX-Backend: two", "X-Tries: 503\nX-Backend: failing", "X-Backend: failing"]
--- response_body eval
["two 503\n", "failing\n", "failing\n"]


=== a route's own rules stand above its upstream's, and its own timeouts
--- failing
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}],
     retries: {attempts: 1, budget: 100%}}
  - {name: slow, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_TOLD}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}],
     retries: {attempts: 2, on: [timeout], budget: 100%}, timeouts: {read: 30s}}
routes:
  - {name: one, paths: ["/one"], upstream: u}
  - {name: two, paths: ["/two"], upstream: u, retries: {attempts: 2, on: [http_503]}}
  - {name: slow, paths: ["/slow"], upstream: slow, timeouts: {read: 200ms}}
--- request eval
["GET /one", "GET /two"]
--- after_request eval
[undef, sub {
    get('/slow?2000', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
    my $began = time;
    my $answer = get('/slow');
    is("$answer->{status} $answer->{headers}{'x-tries'}", '200 504, 200', 'a timeout is tried again');
    cmp_ok(time - $began, '<', 1.5, 'after the time of the route');
    is(get('/slow', method => 'POST', body => 'x')->{status}, 504, 'but no POST');
    get('/heal', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
}]
--- error_code eval
[503, 200]
--- no_error_log
[alert]


=== connect failures are tried again for any method, and the dead peer loses its share
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
  - {name: dead, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: dead, paths: ["/dead"], upstream: dead}
--- request eval
["POST /\nbody", "GET /dead"]
--- after_request eval
[sub {
    my $again = 0;
    for my $number (1 .. 60) {
        my $answer = get('/', $number % 2 ? (method => 'POST', body => 'x') : ());
        is($answer->{status}, 200, "no client sees it: $number") if $answer->{status} != 200;
        $again++ if $answer->{headers}{'x-tries'} =~ /502/;
    }
    cmp_ok($again, '<', 12, 'it is hardly asked any more');
}]
--- error_code eval
[200, 502]
--- no_error_log
[alert]


=== backups serve only where no better node is left
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub { is_deeply(shares(100, '/'), {one => 100}, 'the first priority alone') }


=== a kept connection that its server closed is no failure of the peer, and no try
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_STALE}], retries: {attempts: 1, on: [error]}, breaker: {failures: 1, open_for: 20s}}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub { is_deeply(shares(40, '/'), {stale => 40}, 'no client sees it, the breaker hears of none') }
--- no_error_log
[alert]


=== connections to peers are kept
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "c$connection\n"; }
}
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub { cmp_ok(scalar keys %{shares(60, '/')}, '<=', 2, 'one connection of each worker') }


=== nodes change by an edit, on both workers at once; a reload keeps them
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    ok(edit('["/*"], upstream: u', '["/*"], upstream: v', sub { get('/')->{body} =~ /^two/ }), 'another upstream within a second');
    like($_->{body}, qr/^two/, 'for each worker') for each_worker('/');
    ok(edit('$TEST_NGINX_RAND_PORT_2' =~ s/.*/$Test::Nginx::Util::RandPorts->{TEST_NGINX_RAND_PORT_2}/r,
        $Test::Nginx::Util::RandPorts->{TEST_NGINX_RAND_PORT_1}, sub { get('/')->{body} =~ /^one/ }), 'another node within a second');
    like($_->{body}, qr/^one/, 'for each worker') for each_worker('/');
    ok(reload(), 'reload');
    like($_->{body}, qr/^one/, 'still') for each_worker('/');
}


=== IPv6 and a name that resolves to several addresses
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    listen [::1]:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "a$server_addr\n"; }
}
--- gateway
version: 1
upstreams:
  - {name: six, nodes: [{host: "::1", port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: name, nodes: [{host: localhost, port: $TEST_NGINX_RAND_PORT_1}]}
routes: [{name: six, paths: ["/six"], upstream: six}, {name: name, paths: ["/name"], upstream: name}]
--- request eval
["GET /six", "GET /name"]
--- response_body_like eval
['^a::1$', '^a(?:127\.0\.0\.1|::1)$']


=== ... nor is one that was closed while nobody used it
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; keepalive_timeout 1s; location / { return 200 "three\n"; } }
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}], breaker: {failures: 1, window: 10s, open_for: 10s}}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    for my $round (1 .. 2) {
        get('/') for 1 .. 4;
        sleep 1.2;
    }
    is_deeply(burst(8, '/'), {200 => 8}, 'nobody notices');
}
--- no_error_log
[alert]


=== the read timeout of the route; one node, so its failure is the answer
--- gateway eval
"version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: " . $::Silent->sockport . "}]}]
routes: [{name: a, paths: [\"/*\"], upstream: u, timeouts: {read: 200ms}}]
"
--- request
GET /
--- error_code: 504
--- no_error_log
[alert]


=== misconfigured: no nodes, a port of 0, a weight of 0, twice the same, what is not built
--- gateway
version: 1
upstreams:
  - {name: a, nodes: []}
  - {name: b}
  - {name: c, nodes: [{host: 127.0.0.1, port: 0}]}
  - {name: d, nodes: [{host: 127.0.0.1, port: 1, weight: 0}]}
  - {name: e, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: 1}]}
  - {name: f, nodes: [{host: 127.0.0.1, port: 1}], pool: other}
  - {name: g, nodes: [{host: 127.0.0.1, port: 1}], retries: {on: [http_418]}}
  - {name: h, nodes: [{host: "http://127.0.0.1", port: 1}]}
routes: [{name: r, paths: ["/*"], upstream: i}]
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: upstreams\[0\]\.nodes: /, qr/gateway\.yaml:4: upstreams\[1\]: needs `nodes`/, qr/gateway\.yaml:5: upstreams\[2\]\.nodes\[0\]\.port: must be above 0/,
 qr/gateway\.yaml:6: upstreams\[3\]\.nodes\[0\]\.weight: must be above 0/, qr/gateway\.yaml:7: upstreams\[4\]\.nodes\[1\]: is the same host and port as nodes\[0\]/,
 qr/gateway\.yaml:8: upstreams\[5\]\.pool: not supported yet/, qr/gateway\.yaml:9: upstreams\[6\]\.retries\.on\[0\]: must be one of/,
 qr/gateway\.yaml:10: upstreams\[7\]\.nodes\[0\]\.host: /, qr/gateway\.yaml:11: routes\[0\]\.upstream: .*`i`/]


=== round_robin: nginx's sequence, of both workers together
--- gateway
version: 1
upstreams: [{name: u, algorithm: round_robin, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1, weight: 3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    # The request above was the first turn: one, one, two, one.
    my @seen = map { get('/')->{body} =~ /^(\w+)/ } 1 .. 11;
    is("@seen", 'one two one one one two one one one two one', 'whoever of the workers took which');
}


=== hash: as nginx's own `hash ... consistent`, absent and other keys included
--- http_config
upstream theirs {
    hash $http_x_user consistent;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
}
--- config
location / { gateway_pass gateway; }
location /theirs { gateway off; proxy_pass http://theirs; }
--- gateway
version: 1
upstreams: [{name: u, algorithm: hash, hash_on: ["header:x-user"], nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1, weight: 2}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    my %used;
    for my $user (1 .. 40) {
        my ($ours, $theirs) = map { get($_, headers => "X-User: user-$user")->{body} =~ /^(\w+)/ } '/', '/theirs';
        is($ours, $theirs, "user-$user") if $ours ne $theirs;
        $used{$ours}++;
    }
    is(scalar keys %used, 2, 'both are used');
    is(scalar keys %{shares(12, '/')}, 2, 'without the header it goes round');
}


=== least_conn and max_in_flight: who is busy is passed over, and when all are the answer is 503 at once
--- gateway
version: 1
upstreams:
  - {name: least, algorithm: least_conn, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_TOLD}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
  - {name: lone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_TOLD}], max_in_flight: 2}
  - {name: spare, algorithm: random, max_in_flight: 1, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_TOLD}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}]}
routes:
  - {name: least, paths: ["/least"], upstream: least}
  - {name: lone, paths: ["/lone"], upstream: lone}
  - {name: spare, paths: ["/spare"], upstream: spare}
  - {name: all, paths: ["/*"], upstream: {nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}}
--- request
GET /
--- after_request eval
sub {
    get('/slow?1500', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
    my @pids = map { my $path = $_; my $pid = fork; if (!$pid) { get($path); POSIX::_exit(0) } $pid } '/lone', '/lone', '/spare', '/least', '/least';
    select undef, undef, undef, 0.4;
    my $busy = get('/lone', method => 'POST', body => 'x' x 1000);
    is("$busy->{status} $busy->{headers}{'retry-after'}", '503 1', 'busy');
    like($busy->{body}, qr/"code":"upstream\.busy"/, 'and why');
    like(get('/spare')->{body}, qr/^two/, 'the backup takes what is over');
    like(get('/least')->{body}, qr/^two/, 'the other one has nothing to do') for 1 .. 3;
    waitpid $_, 0 for @pids;
    get('/heal', port => $ENV{TEST_NGINX_TOLD}, method => 'POST');
    is(get('/lone')->{status}, 200, 'room again');
}


=== p2c_ewma and random answer, a dead node is left; slow_start lets a new node begin slowly
--- gateway
version: 1
upstreams:
  - {name: p, algorithm: p2c_ewma, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}], retries: {budget: 100%}}
  - {name: r, algorithm: random, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
  - {name: s, algorithm: round_robin, slow_start: 1h, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
routes: [{name: p, paths: ["/p"], upstream: p}, {name: r, paths: ["/*"], upstream: r}, {name: s, paths: ["/s"], upstream: s}]
--- request
GET /
--- after_request eval
sub {
    is_deeply(shares(30, '/p'), {two => 30}, 'nobody sees the dead one');
    my $seen = shares(200, '/');
    cmp_ok(abs($seen->{one} - 100), '<', 45, 'even');
    my ($one, $two) = @{$Test::Nginx::Util::RandPorts}{qw(TEST_NGINX_RAND_PORT_1 TEST_NGINX_RAND_PORT_2)};
    sleep 2;
    ok(edit("slow_start: 1h, nodes: [{host: 127.0.0.1, port: $one}", "slow_start: 10s, nodes: [{host: 127.0.0.1, port: $one}, {host: 127.0.0.1, port: $two}",
        sub { grep { get('/s')->{body} =~ /^two/ } 1 .. 12 }), 'it gets something');
    $seen = shares(40, '/s');
    cmp_ok($seen->{two}, '<', 16, 'but little');
}
--- no_error_log
[alert]


=== misconfigured: keys without hash, hash without keys, a key that is the same for all, a ring too heavy
--- gateway
version: 1
upstreams:
  - {name: a, nodes: [{host: 127.0.0.1, port: 1}], algorithm: hash}
  - {name: b, nodes: [{host: 127.0.0.1, port: 1}], hash_on: [ip]}
  - {name: c, nodes: [{host: 127.0.0.1, port: 1}], algorithm: hash, hash_on: [global]}
  - {name: d, nodes: [{host: 127.0.0.1, port: 1, weight: 20000}], algorithm: hash, hash_on: [ip]}
  - {name: e, nodes: [{host: 127.0.0.1, port: 1}], algorithm: least_connections}
  - {name: f, nodes: [{host: 127.0.0.1, port: 1}], algorithm: hash, hash_on: [ip], slow_start: 5s}
  - {name: g, nodes: [{host: 127.0.0.1, port: 1}], max_in_flight: 0}
routes: [{name: r, paths: ["/*"], upstream: a}]
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: upstreams\[0\]: needs `hash_on`/, qr/gateway\.yaml:4: upstreams\[1\]\.hash_on: has no meaning/,
 qr/gateway\.yaml:5: upstreams\[2\]\.hash_on\[0\]: must differ/, qr/gateway\.yaml:6: upstreams\[3\]\.nodes: weigh 20000 together/,
 qr/gateway\.yaml:7: upstreams\[4\]\.algorithm: must be one of/, qr/gateway\.yaml:8: upstreams\[5\]\.slow_start: has no meaning/,
 qr/gateway\.yaml:9: upstreams\[6\]\.max_in_flight: must be above 0/]
