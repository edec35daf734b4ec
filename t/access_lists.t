# Who may come at all: `bans`, a route's `allow` and `deny`, and lists by name. Addresses are what nginx's realip module
# leaves; they are judged before anybody asks for credentials or counts.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

our $Log = <<'CONF';
log_format seen '$request_uri $remote_addr $status route=$gateway_route decision=$gateway_decision reason=$gateway_reason limit=$gateway_limit_status';
CONF

package Test::Base::Filter {

    # The status that a client of that address gets.
    sub from {
        my ($address, $path, @more) = @_;
        return get($path, headers => CORE::join("\r\n", "X-Client: $address", @more))->{status};
    }

    # Rows of [path, status => addresses ...].
    sub may {
        for (@_) {
            my ($path, $status, @addresses) = @$_;
            is(from($_, $path), $status, "$_ at $path") for @addresses;
        }
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => "$Log\n" . ($block->http_config // ''));
    # The address is what the client says: this is a test.
    my $config = $block->config // 'location / { gateway_pass gateway; }';
    $block->set_value(config => <<"CONF");
access_log logs/access.log seen;
add_header X-Worker \$pid always;
set_real_ip_from 127.0.0.1;
set_real_ip_from ::1;
real_ip_header X-Client;
location = /metrics { gateway_metrics; }
$config
CONF
});

run_tests();

__DATA__

=== allow and deny: addresses, blocks of both families, and lists by name
--- gateway
version: 1
lists:
  - {name: office, cidrs: [10.1.0.0/16, "2001:db8:1::/48", 192.0.2.7]}
  - {name: guests, cidrs: [10.1.5.0/24]}
  - {name: nobody, cidrs: []}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: open, paths: ["/*"], upstream: u}
  - {name: allow, paths: ["/allow/*"], allow: [192.0.2.1, 198.51.100.0/24, "2001:db8::/64"], upstream: u}
  - {name: deny, paths: ["/deny/*"], deny: [192.0.2.1, 198.51.100.0/24, "2001:db8::/64"], upstream: u}
  - {name: office, paths: ["/office/*"], allow: [office, 203.0.113.9], deny: [guests], upstream: u}
  - {name: nobody, paths: ["/nobody/*"], allow: [nobody], upstream: u}
  - {name: v6, paths: ["/v6/*"], allow: ["::/0"], upstream: u}
  - {name: v4, paths: ["/v4/*"], deny: [0.0.0.0/0], upstream: u}
--- request
GET /
--- more_headers
X-Client: 192.0.2.1
--- after_request eval
sub {
    may(
        ['/allow/', 200, '192.0.2.1', '198.51.100.0', '198.51.100.255', '2001:db8::1', '2001:db8::ffff:ffff:ffff:ffff', '::ffff:192.0.2.1'],
        ['/allow/', 403, '192.0.2.0', '192.0.2.2', '198.51.101.0', '198.51.99.255', '2001:db8:0:1::', '::1', '127.0.0.1'],
        ['/deny/', 403, '192.0.2.1', '198.51.100.0', '198.51.100.255', '2001:db8::1', '::ffff:192.0.2.1'],
        ['/deny/', 200, '192.0.2.0', '198.51.101.0', '2001:db8:0:1::', '::1', '127.0.0.1'],
        ['/office/', 200, '10.1.0.1', '10.1.255.255', '2001:db8:1:ffff::', '192.0.2.7', '203.0.113.9'],
        ['/office/', 403, '10.1.5.1', '10.2.0.0', '2001:db8:2::', '192.0.2.8'],
        ['/nobody/', 403, '10.1.0.1', '127.0.0.1', '::1'],
        ['/v6/', 200, '2001:db8::1', '::1'], ['/v6/', 403, '192.0.2.1'],
        ['/v4/', 403, '192.0.2.1'], ['/v4/', 200, '2001:db8::1'],
    );
    is($_->{status}, 403, 'on each worker') for each_worker('/deny/', headers => 'X-Client: 192.0.2.1');
    is(get('/allow/')->{status}, 403, 'without the header it is the connection');
    like(CORE::join(' ', map { from('192.0.2.1', $_) } '/%64eny/', '//deny/', '/x/../deny/', '/deny/%2e'), qr/^403 403 403 403$/, 'in every spelling of the path');
    # A header that the realip module was not told of is nobody's address.
    is(get('/allow/', headers => "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1")->{status}, 403, 'other headers say nothing');
}


=== a listener on IPv6
--- skip_eval: 4: !eval { require IO::Socket::IP; IO::Socket::IP->new(LocalHost => '::1', Listen => 1) }
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: home, paths: ["/home"], allow: ["::1"], upstream: u}
  - {name: away, paths: ["/away"], deny: ["::/64"], upstream: u}
--- http_config
server {
    listen [::1]:$TEST_NGINX_RAND_PORT_2;
    location / { gateway_pass gateway; }
}
--- request
GET /away
--- after_request eval
sub {
    my $port = Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_2', 'port', $Test::Nginx::Util::RandPorts);
    for (['/home', 200], ['/away', 403]) {
        my $socket = IO::Socket::IP->new(PeerHost => '::1', PeerPort => $port) or die "no connection: $!\n";
        print $socket "GET $_->[0] HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        my ($status) = (<$socket> // '') =~ m{^HTTP/1\.1 (\d+)};
        is($status, $_->[1], "$_->[0] over IPv6");
    }
    is(get('/home')->{status}, 403, 'over IPv4');
}


=== the refusal says who is not welcome and no more; the log says why
--- gateway
version: 1
bans: [{cidr: 192.0.2.9, reason: scraping}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: r, paths: ["/r"], deny: [192.0.2.1], upstream: u}]
--- request eval
["GET /r", "GET /r", "GET /r", "GET /none", "GET /r"]
--- more_headers eval
["X-Client: 192.0.2.1", "X-Client: 192.0.2.9", "X-Client: 192.0.2.1\nAccept: text/html", "X-Client: 192.0.2.9", "X-Client: 192.0.2.1\nContent-Type: application/grpc"]
--- error_code eval
[403, 403, 403, 403, 200]
--- response_headers eval
["Content-Type: application/problem+json\n! X-Backend", "Content-Type: application/problem+json\n! X-Backend", "Content-Type: text/html", "Content-Type: application/problem+json", "grpc-status: 7"]
--- response_body_like eval
['^\{"type":"about:blank","title":"Forbidden","status":403,"detail":"[^"]*","code":"access\.denied","request_id":"[0-9a-f-]{36}"\}$',
 '^((?!ban|scraping|192).)*"code":"access\.denied"((?!ban|scraping|192).)*$', '<h1>403 Forbidden</h1>', 'access\.denied', '^$']
--- after_request eval
[(undef) x 4, sub {
    my $log = accesses();
    like($log, qr{^/r 192\.0\.2\.1 403 route=r decision=refuse reason=access\.denied limit=-$}m, 'denied');
    like($log, qr{^/r 192\.0\.2\.9 403 route=- decision=refuse reason=access\.banned limit=-$}m, 'banned, before there is a route');
    like($log, qr{^/none 192\.0\.2\.9 403 route=- decision=refuse reason=access\.banned}m, 'and where there is none');
    my $metrics = get('/metrics')->{body};
    like($metrics, qr/^gateway_requests_total\{route="r",method="GET",status="403"\} 2$/m, 'the denied are counted for the route');
    like($metrics, qr/^gateway_requests_total\{route="-",method="GET",status="403"\} 2$/m, 'the banned for none');
}]


=== denied before limits are asked and before anybody asks for credentials
--- gateway
version: 1
bans: [{cidr: 192.0.2.9}]
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters: [{name: one, key: [global], rate: 1/h, burst: 1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: r, paths: ["/r"], allow: [192.0.2.0/29], auth: [p], limits: [one], upstream: u}]
--- request
GET /r
--- more_headers
X-Client: 198.51.100.1
--- error_code: 403
--- response_headers
! RateLimit
! WWW-Authenticate
--- after_request eval
sub {
    is(from('198.51.100.1', '/r', $main::Token), 403, "denied, $_") for 1 .. 3;
    is(from('192.0.2.9', '/r', $main::Token), 403, "banned, $_") for 1 .. 3;
    is(from('192.0.2.1', '/r', $main::Token), 200, 'the one that may is let through');
    is(from('192.0.2.1', '/r', $main::Token), 429, 'once');
    is(from('198.51.100.1', '/r', $main::Token), 403, 'and still denied');
}


=== bans hold until their time, over every location that is ours
--- gateway
version: 1
bans:
  - {cidr: 192.0.2.1, until: "2020-01-01T00:00:00Z", reason: over}
  - {cidr: 192.0.2.2, until: "2099-01-01T00:00:00Z", reason: not over}
  - {cidr: 198.51.100.0/24}
  - {cidr: "2001:db8:bad::/48", until: "2099-01-01T00:00:00+02:00"}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: all, paths: ["/*"], upstream: u, allow: [0.0.0.0/0, "::/0"]}
  - {name: reply, paths: ["/reply"], reply: {body: "hello\n"}}
  - {name: policy, paths: ["/policy/*"]}
--- config
location / { gateway_pass gateway; }
location /policy/ { gateway on; return 200 "nginx\n"; }
location /files/ { gateway on; root html; }
location /off/ { return 200 "not ours\n"; }
--- user_files
>>> files/f.txt
file
--- request
GET /
--- after_request eval
sub {
    may(map { my $path = $_; ([$path, 200, '192.0.2.1', '192.0.2.3'], [$path, 403, '192.0.2.2', '198.51.100.77', '2001:db8:bad::1']) }
        '/', '/reply', '/files/f.txt');
    is(from('192.0.2.2', '/off/'), 200, 'a location that is not ours asks nobody');
    # In the order of nginx's phases: `return` is earlier than any access check.
    is(from('192.0.2.2', '/policy/'), 200, 'nor does `return`');
    # Time is the document's: a ban that is added acts on the next request of each worker, one that is lifted too.
    ok(edit('cidr: 198.51.100.0/24', 'cidr: 203.0.113.0/24', sub { from('203.0.113.1', '/') == 403 }), 'another ban');
    is($_->{status}, 403, 'on each worker') for each_worker('/', headers => 'X-Client: 203.0.113.1');
    is($_->{status}, 200, 'the old one is lifted') for each_worker('/', headers => 'X-Client: 198.51.100.77');
    ok(reload(), 'reload');
    is($_->{status}, 403, 'after a reload') for each_worker('/', headers => 'X-Client: 203.0.113.1');
    is($_->{status}, 200, 'after a reload') for each_worker('/', headers => 'X-Client: 198.51.100.77');
}


=== a ban ends by itself
--- gateway
version: 1
bans: [{cidr: 192.0.2.1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- more_headers
X-Client: 192.0.2.1
--- error_code: 403
--- after_request eval
sub {
    my @time = gmtime(time() + 4);
    my $until = sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ', $time[5] + 1900, $time[4] + 1, @time[3, 2, 1, 0];
    edit('{cidr: 192.0.2.1}', "{cidr: 192.0.2.0/30, until: '$until'}");
    is(from('192.0.2.2', '/'), 403, 'not yet');
    ok(until_true(5, sub { from('192.0.2.2', '/') == 200 }), 'without an edit');
    is(from('192.0.2.1', '/'), 200, 'for the whole block');
    is($_->{status}, 200, 'on each worker') for each_worker('/', headers => 'X-Client: 192.0.2.1');
}


=== a list in a file: comments, both families; its changes come with the document's next change, or with a reload
--- gateway
version: 1
lists: [{name: feed, file: $TEST_NGINX_SERVER_ROOT/conf/feed.txt}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], deny: [feed], upstream: u}]
--- user_files eval
">>> $ENV{TEST_NGINX_SERVROOT}/conf/feed.txt
# What is not welcome.
192.0.2.1
198.51.100.0/24   # a block

2001:db8::/32
"
--- request
GET /
--- after_request eval
sub {
    my $feed = Test::Nginx::Socket::server_root() . '/conf/feed.txt';
    may(['/', 403, '192.0.2.1', '198.51.100.9', '2001:db8:1::'], ['/', 200, '192.0.2.2', '2001:db9::']);

    # The document alone is watched, once the leader has had its first look.
    sleep 0.8;
    Test::Nginx::Util::write_file($feed, "192.0.2.2\n");
    sleep 1;
    may(['/', 403, '192.0.2.1'], ['/', 200, '192.0.2.2']);
    ok(edit('version: 1', "# touched\nversion: 1", sub { from('192.0.2.2', '/') == 403 }), 'with the next change of the document');
    is($_->{status}, 403, 'on each worker') for each_worker('/', headers => 'X-Client: 192.0.2.2');
    is($_->{status}, 200, 'the old ones are gone') for each_worker('/', headers => 'X-Client: 192.0.2.1');

    # A broken list breaks the edit, not what is live.
    Test::Nginx::Util::write_file($feed, "192.0.2.3\n192.0.2.300\n");
    edit('# touched', '# touched again');
    like(errors(), qr{\[error\].*gateway\.yaml:3: lists\[0\]\.file: line 2: must be an address}, 'told with both lines');
    may(['/', 403, '192.0.2.2'], ['/', 200, '192.0.2.3']);
    unlink $feed;
    edit('# touched again', '# and again');
    like(errors(), qr{\[error\].*gateway\.yaml:3: lists\[0\]\.file: cannot read `\Q$feed\E`: }, 'a missing one');
    may(['/', 403, '192.0.2.2']);
    Test::Nginx::Util::write_file($feed, "192.0.2.3\n");
    ok(reload(), 'reload');
    ok(until_true(2, sub { from('192.0.2.3', '/') == 403 }), 'and so does a reload, by the first look of the leader that comes with it');
    is($_->{status}, 403, 'on each worker') for each_worker('/', headers => 'X-Client: 192.0.2.3');
    may(['/', 200, '192.0.2.2']);
}
--- no_error_log
[alert]
[emerg]


=== a long list: the same answer on each worker
--- gateway
version: 1
lists: [{name: feed, file: $TEST_NGINX_SERVER_ROOT/conf/feed.txt}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], deny: [feed], upstream: u}]
--- user_files eval
">>> $ENV{TEST_NGINX_SERVROOT}/conf/feed.txt\n" . CORE::join '', map { my $high = $_; map { "10.$high.$_.0/25\n" } 0 .. 255 } 0 .. 77
--- request
GET /
--- after_request eval
sub {
    may(['/', 403, '10.0.0.0', '10.0.0.127', '10.77.255.127', '10.40.3.1'], ['/', 200, '10.0.0.128', '10.78.0.0', '10.40.3.200', '9.255.255.255']);
    is($_->{status}, 403, 'on each worker') for each_worker('/', headers => 'X-Client: 10.70.1.1');
}


=== satisfy any: a password is no way round a ban or a denial
--- gateway
version: 1
bans: [{cidr: 192.0.2.9}]
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: r, paths: ["/r"], deny: [192.0.2.1], upstream: u}
  - {name: p, paths: ["/p"], deny: [192.0.2.1], auth: [p], upstream: u}
  - {name: page, paths: ["/page"], deny: [192.0.2.1], auth: [p], upstream: u}
  - {name: site, paths: ["/site/*"], deny: [192.0.2.1]}
--- config
location / { satisfy any; auth_basic "realm"; auth_basic_user_file $TEST_NGINX_SERVER_ROOT/html/users; gateway_pass gateway; }
location = /page { satisfy any; allow all; gateway_pass gateway; error_page 403 /sorry.txt; }
location = /sorry.txt { root html; }
location /site/ { satisfy any; allow all; gateway on; root html; }
--- user_files
>>> users
bob:{PLAIN}secret
>>> sorry.txt
sorry
>>> site/f.txt
file
--- request
GET /r
--- more_headers
X-Client: 192.0.2.1
--- error_code: 403
--- response_body_like: access\.denied
--- after_request eval
sub {
    my $basic = 'Authorization: Basic ' . MIME::Base64::encode_base64('bob:secret', '');
    is(from('192.0.2.1', '/r', $basic), 403, 'denied');
    is(from('192.0.2.9', '/r', $basic), 403, 'banned');
    is(from('192.0.2.1', '/p', $basic), 403, 'denied where a token would do');
    is(from('192.0.2.1', '/p', $main::Token), 403, 'and the token does not');
    is(from('192.0.2.1', '/site/f.txt'), 403, 'denied a file');
    is(from('192.0.2.2', '/site/f.txt'), 200, 'which is there');
    is(from('192.0.2.2', '/p', $basic), 200, 'another address, with a password');
    is(from('192.0.2.2', '/p', $main::Token), 200, 'or a token');
    is(from('192.0.2.2', '/p'), 401, 'or nothing');
    my $page = get('/page', headers => 'X-Client: 192.0.2.1');
    is("$page->{status} $page->{body}", "403 sorry\n", 'with a page of the location');
    is(from('192.0.2.2', '/page'), 200, 'and for others without');
}
--- no_error_log
[alert]
[emerg]
[error]


=== nginx's own allow and deny, beside ours
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: r, paths: ["/*"], allow: [192.0.2.1, 192.0.2.2], upstream: u}]
--- config
location / { allow 192.0.2.2; allow 192.0.2.3; deny all; gateway_pass gateway; }
--- request
GET /
--- more_headers
X-Client: 192.0.2.2
--- after_request eval
sub { may(['/', 403, '192.0.2.1', '192.0.2.3', '192.0.2.4'], ['/', 200, '192.0.2.2']) }
--- no_error_log
[alert]
[emerg]


=== subrequests and internal redirects are judged too
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: inner, paths: ["/inner/*"], deny: [192.0.2.1], upstream: u}
--- config
location / { gateway_pass gateway; }
location /asks { auth_request /inner/x; gateway_pass gateway; }
location /goes { gateway on; try_files /none /inner/y; }
--- request
GET /
--- after_request eval
sub {
    may(['/asks', 200, '192.0.2.2'], ['/asks', 403, '192.0.2.1'], ['/goes', 200, '192.0.2.2'], ['/goes', 403, '192.0.2.1']);
}
--- no_error_log
[alert]
[emerg]


=== misconfigured: bits beyond the prefix, a list that is not there, a time that is none, both kinds of a list
--- gateway
version: 1
lists:
  - {name: a, cidrs: [10.0.0.1/8]}
  - {name: b, cidrs: [10.0.0.0/8], file: /nowhere}
  - {name: c}
  - {name: d, file: /nowhere/list}
  - {name: e, file: relative}
  - {name: 10.0.0.0, cidrs: []}
bans:
  - {cidr: 10.0.0.256}
  - {cidr: 10.0.0.1, until: tomorrow}
  - {until: "2099-01-01T00:00:00Z"}
routes: [{name: r, paths: ["/*"], allow: [nowhere], deny: ["10.0.0.0/33"]}]
--- must_die
--- error_log eval
[qr{gateway\.yaml:3: lists\[0\]\.cidrs\[0\]: has bits beyond its prefix: write `10\.0\.0\.0/8`}, qr{gateway\.yaml:4: lists\[1\]: needs `cidrs` or `file`, not both},
 qr{gateway\.yaml:5: lists\[2\]: needs `cidrs` or `file`}, qr{gateway\.yaml:6: lists\[3\]\.file: cannot read `/nowhere/list`: .*No such file},
 qr{gateway\.yaml:7: lists\[4\]\.file: must be an absolute path}, qr{gateway\.yaml:8: lists\[5\]\.name: an address cannot be},
 qr{gateway\.yaml:10: bans\[0\]\.cidr: must be an address or a block}, qr{gateway\.yaml:11: bans\[1\]\.until: must be a time such as},
 qr{gateway\.yaml:12: bans\[2\]: .*`cidr`}, qr{gateway\.yaml:13: routes\[0\]\.allow\[0\]: .*`nowhere`}, qr{gateway\.yaml:13: routes\[0\]\.deny\[0\]: the length of the prefix}]
--- suppress_stderr
