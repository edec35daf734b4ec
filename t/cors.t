# Cross-origin requests: preflights are answered before anybody asks for credentials, and what is said to browsers is said
# once, by the gateway, on every answer of a route with `cors` and on no other.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

# What a browser of the page at `$Origin` sends.
our $App = 'Origin: https://app.example.com';
our $Evil = 'Origin: https://evil.example';

package Test::Base::Filter {

    # The status and, sorted, the lines about origins of an answer as it came.
    sub told {
        my ($path, $headers, $method) = @_;
        my $lines = CORE::join '', map { "$_\r\n" } grep { length } split /\n/, $headers;
        my $raw = exchange(($method // 'GET') . " $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$lines\r\n");
        my ($head) = split /\r\n\r\n/, $raw, 2;
        my ($status) = ($head // '') =~ m{^HTTP/1\.1 (\d+)};
        return [$status, sort(($head // '') =~ /^((?i:access-control-[a-z-]*|vary): [^\r\n]*)/mg)];
    }

    sub preflight {
        my ($path, $origin, $method, $headers) = @_;
        return told($path, CORE::join("\n", $origin, "Access-Control-Request-Method: $method",
            defined $headers ? "Access-Control-Request-Headers: $headers" : ()), 'OPTIONS');
    }
}

our $Asked = 'Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers';
our $Allow = 'Access-Control-Allow-Origin: https://app.example.com';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters: [{name: one, key: [global], rate: 1/h, burst: 1}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: dead, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: plain, paths: ["/*"], upstream: u}
  - {name: app, paths: ["/app/*"], methods: [GET, POST], upstream: u, cors: {origins: ["https://app.example.com"]}}
  - {name: private, paths: ["/private/*"], upstream: u, auth: [p], cors: {origins: ["https://app.example.com"]}}
  - {name: limited, paths: ["/limited/*"], upstream: u, limits: [one], cors: {origins: ["https://app.example.com"]}}
  - {name: dead, paths: ["/dead/*"], upstream: dead, cors: {origins: ["https://app.example.com"]}}
  - name: full
    paths: ["/full/*"]
    upstream: u
    cors: {origins: ["https://*.example.com", "http://localhost:3000"], methods: [PUT, DELETE], headers: [X-A, x-b], expose: [X-C, X-D], credentials: true, max_age: 1h}
  - {name: anybody, paths: ["/anybody/*"], upstream: u, cors: {origins: ["*"], max_age: 0s}}
  - {name: reply, paths: ["/reply"], reply: {body: "hello\n"}, cors: {origins: ["https://app.example.com"]}}
  - {name: away, paths: ["/away"], redirect: {to: /app/}, cors: {origins: ["https://app.example.com"]}}
YAML
    $block->set_value(http_config => <<'CONF') if !defined $block->http_config;
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_2.
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    add_header X-Backend one always;
    location / { return 200 "one $request_method $request_uri\n"; }
    location ~ /said$ {
        add_header Access-Control-Allow-Origin https://evil.example always;
        add_header access-control-allow-credentials true always;
        add_header Access-Control-Expose-Headers X-Internal always;
        add_header Vary Accept-Language always;
        add_header X-Backend one always;
        return 200 "said\n";
    }
}
CONF
});

run_tests();

__DATA__

=== a preflight: 204, and the route's methods, before auth and limits
--- request
OPTIONS /app/1
--- more_headers eval
"$::App\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: x-one, content-type"
--- error_code: 204
--- response_headers
! X-Backend
! Content-Type
Access-Control-Allow-Origin: https://app.example.com
--- response_body
--- after_request eval
sub {
    is_deeply(preflight('/app/1', $main::App, 'POST', 'x-one, content-type'),
        [204, 'Access-Control-Allow-Headers: x-one, content-type', 'Access-Control-Allow-Methods: GET, POST', $main::Allow,
         'Access-Control-Max-Age: 600', $main::Asked], 'all lines, each once');
    is_deeply(preflight('/private/1', $main::App, 'PUT', 'authorization'),
        [204, 'Access-Control-Allow-Headers: authorization', 'Access-Control-Allow-Methods: PUT', $main::Allow,
         'Access-Control-Max-Age: 600', $main::Asked], 'nobody asks for credentials');
    is(preflight('/limited/1', $main::App, 'GET')->[0], 204, "preflight $_ costs nothing") for 1 .. 3;
    is_deeply(told('/limited/1', $main::App), [200, $main::Allow, 'Vary: Origin'], 'so the one request passes');
    is_deeply(preflight('/full/1', 'Origin: https://a.b.example.com', 'PUT', 'x-zzz'),
        [204, 'Access-Control-Allow-Credentials: true', 'Access-Control-Allow-Headers: x-a, x-b', 'Access-Control-Allow-Methods: PUT, DELETE',
         'Access-Control-Allow-Origin: https://a.b.example.com', 'Access-Control-Max-Age: 3600', $main::Asked], 'lists of its own');
    is_deeply([(grep /Max-Age|Origin/, @{preflight('/anybody/1', $main::Evil, 'GET')})[0, 1]],
        ['Access-Control-Allow-Origin: *', 'Access-Control-Max-Age: 0'], 'anybody');
    is(preflight('/reply', $main::App, 'GET')->[0], 204, 'a route that answers by itself');
    is($_->{status}, 204, 'on each worker') for each_worker('/private/1', method => 'OPTIONS',
        headers => "$main::App\r\nAccess-Control-Request-Method: GET");
}


=== nothing is granted to another origin
--- request
GET /app/1
--- after_request eval
sub {
    for my $origin ('https://evil.example', 'http://app.example.com', 'https://app.example.com.evil.example', 'https://app.example.com:8443', 'null') {
        is_deeply(preflight('/app/1', "Origin: $origin", 'POST', 'x-one'), [204, $main::Asked], "a preflight of $origin");
        is_deeply(told('/app/1', "Origin: $origin"), [200, 'Vary: Origin'], "a request of $origin");
    }
    for my $origin ('https://example.com', 'https://evilexample.com', 'https://a.example.com.evil', 'https://.example.com', 'http://localhost', 'https://a@.example.com') {
        is_deeply(preflight('/full/1', "Origin: $origin", 'PUT'), [204, $main::Asked], "a preflight of $origin");
    }
    is_deeply(told('/app/said', $main::Evil), [200, 'Vary: Accept-Language', 'Vary: Origin'], 'though the upstream would');
    is_deeply(told('/app/1', "$main::App\n$main::Evil"), [200, 'Vary: Origin'], 'two origins are none');
    is_deeply(told('/app/1', ''), [200, 'Vary: Origin'], 'nor is none');
}
--- more_headers eval: $::App
--- response_headers
Access-Control-Allow-Origin: https://app.example.com
X-Backend: one


=== what the upstream says of origins gives way; its Vary stays
--- request
GET /app/said
--- after_request eval
sub {
    is_deeply(told('/app/said', $main::App), [200, $main::Allow, 'Vary: Accept-Language', 'Vary: Origin'], 'once');
    is_deeply(told('/full/said', 'Origin: http://localhost:3000'),
        [200, 'Access-Control-Allow-Credentials: true', 'Access-Control-Allow-Origin: http://localhost:3000',
         'Access-Control-Expose-Headers: x-c, x-d', 'Vary: Accept-Language', 'Vary: Origin'], 'with all lists');
    is_deeply(told('/anybody/said', $main::Evil), [200, 'Access-Control-Allow-Origin: *', 'Vary: Accept-Language'], 'anybody');
    is_deeply(told('/said', $main::App),
        [200, 'Access-Control-Allow-Origin: https://evil.example', 'Access-Control-Expose-Headers: X-Internal', 'Vary: Accept-Language',
         'access-control-allow-credentials: true'], 'a route without cors leaves it alone');
    is_deeply(told('/1', $main::App), [200], 'and adds nothing');
}
--- more_headers eval: $::App
--- response_headers
Access-Control-Allow-Origin: https://app.example.com
--- response_body
said


=== refusals say it too, or a page could not read why; so do the route's own answers
--- request
GET /private/1
--- more_headers eval: $::App
--- error_code: 401
--- response_headers
Access-Control-Allow-Origin: https://app.example.com
Vary: Origin
Content-Type: application/problem+json
--- after_request eval
sub {
    is_deeply(told('/private/1', $main::App), [401, $main::Allow, 'Vary: Origin'], 'a 401');
    is_deeply(told('/private/1', $main::Evil), [401, 'Vary: Origin'], 'to nobody else');
    is_deeply(told('/private/1', "$main::App\n$main::Token"), [200, $main::Allow, 'Vary: Origin'], 'with a token');
    told('/limited/1', '');
    is_deeply(told('/limited/1', $main::App), [429, $main::Allow, 'Vary: Origin'], 'a 429');
    is_deeply(told('/reply', $main::App), [200, $main::Allow, 'Vary: Origin'], 'a reply');
    is_deeply(told('/away', $main::App), [302, $main::Allow, 'Vary: Origin'], 'a redirect');
    is_deeply(told('/app/1', $main::App, 'PUT'), [200], 'another route, without cors, says nothing');
}


=== nginx's own pages say it: a dead backend, a body too large, an error page
--- config
location / { gateway_pass gateway; client_max_body_size 1k; }
location /private/ { gateway_pass gateway; error_page 401 /login.txt; }
location = /login.txt { root html; }
--- user_files
>>> login.txt
log in
--- request
GET /dead/1
--- more_headers eval: $::App
--- error_code: 502
--- response_headers
Access-Control-Allow-Origin: https://app.example.com
Vary: Origin
--- response_body_like: nginx
--- after_request eval
sub {
    is_deeply(told('/dead/1', $main::App), [502, $main::Allow, 'Vary: Origin'], 'once');
    is_deeply(told('/dead/1', $main::Evil), [502, 'Vary: Origin'], 'to nobody else');
    is_deeply(told('/private/1', $main::App), [401, $main::Allow, 'Vary: Origin'], 'an error page of the location');
    is(get('/private/1')->{body}, "log in\n", 'which it is');
}
--- no_error_log
[alert]
[emerg]


=== before the guards of nginx in the same location
--- config
location / { auth_basic "realm"; auth_basic_user_file $TEST_NGINX_SERVER_ROOT/html/users; gateway_pass gateway; }
location /private/ { satisfy any; auth_basic "realm"; auth_basic_user_file $TEST_NGINX_SERVER_ROOT/html/users; gateway_pass gateway; }
--- user_files
>>> users
bob:{PLAIN}secret
--- request
GET /app/1
--- error_code: 401
--- more_headers eval: $::App
--- response_headers
Access-Control-Allow-Origin: https://app.example.com
Vary: Origin
--- after_request eval
sub {
    my $basic = 'Authorization: Basic ' . MIME::Base64::encode_base64('bob:secret', '');
    is(preflight('/app/1', $main::App, 'GET')->[0], 204, 'a preflight');
    is(preflight('/private/1', $main::App, 'GET')->[0], 204, 'a preflight where any of two would do');
    is(preflight('/1', $main::App, 'GET')->[0], 401, 'none on a route without cors');
    is_deeply(told('/app/1', "$main::App\n$basic"), [200, $main::Allow, 'Vary: Origin'], 'with a password');
    is_deeply(told('/private/1', "$main::App\n$basic"), [200, $main::Allow, 'Vary: Origin'], 'a password instead of a token');
}
--- no_error_log
[alert]
[emerg]


=== what is no preflight is an OPTIONS like any other
--- request
OPTIONS /anybody/1
--- response_body
one OPTIONS /anybody/1
--- after_request eval
sub {
    is_deeply(told('/app/1', $main::App, 'OPTIONS'), [200], 'without a method it is for the next route, which has no cors');
    is(told('/anybody/1', 'Access-Control-Request-Method: GET', 'OPTIONS')->[0], 200, 'without an origin');
    is(told('/app/1', "$main::App\nAccess-Control-Request-Method: GET")->[0], 200, 'a GET is none');
    is_deeply(preflight('/1', $main::App, 'GET'), [200], 'a route without cors passes it on');
}


=== a preflight for a method that no route has, for a path that no route has
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: read, paths: ["/a"], methods: [GET], upstream: u, cors: {origins: ["https://app.example.com"]}}
  - {name: write, paths: ["/a"], methods: [PUT], upstream: u, cors: {origins: ["https://admin.example.com"]}}
  - {name: shown, paths: ["/b"], match: [{header: X-Key, exists: true}], upstream: u, cors: {origins: ["https://app.example.com"]}}
  - {name: bare, paths: ["/c"], match: [{header: X-Key, exists: true}], upstream: u}
  - {name: one, paths: ["/d"], match: [{query: v, equals: "1"}], upstream: u, cors: {origins: ["https://app.example.com"]}}
--- request
GET /a
--- after_request eval
sub {
    is(preflight('/a', $main::App, 'DELETE')->[0], 405, 'no such method');
    is(get('/a', method => 'OPTIONS', headers => "$main::App\r\nAccess-Control-Request-Method: DELETE")->{headers}{allow}, 'GET, PUT', 'and what there is');
    is(preflight('/z', $main::App, 'GET')->[0], 404, 'no such path');
    is_deeply([(grep /Allow-/, @{preflight('/a', $main::App, 'GET')})], ['Access-Control-Allow-Methods: GET', $main::Allow], 'the route of the method to come');
    is_deeply([(grep /Allow-/, @{preflight('/a', $main::App, 'PUT')})], [], 'which decides on the origin');
    # The headers of the request to come are not there yet; its query is.
    is(preflight('/b', $main::App, 'GET', 'x-key')->[0], 204, 'a condition that may hold');
    is(preflight('/d?v=1', $main::App, 'GET')->[0], 204, 'a condition that holds');
    is(preflight('/d?v=2', $main::App, 'GET')->[0], 404, 'a condition that does not');
    is_deeply(told('/b', "$main::App\nX-Key: 1"), [200, $main::Allow, 'Vary: Origin'], 'and the request itself');
}


=== who is banned or denied is not told
--- gateway
version: 1
bans: [{cidr: 192.0.2.1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], deny: [192.0.2.2], upstream: u, cors: {origins: ["https://app.example.com"]}}]
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Client;
location / { gateway_pass gateway; }
--- request
GET /
--- after_request eval
sub {
    for my $number (1, 2) {
        is(preflight('/', "$main::App\nX-Client: 192.0.2.$number", 'GET')->[0], 403, "a preflight of $number");
        is(told('/', "$main::App\nX-Client: 192.0.2.$number")->[0], 403, "a request of $number");
    }
    is(preflight('/', "$main::App\nX-Client: 192.0.2.3", 'GET')->[0], 204, 'another');
}


=== an answer from nginx's cache is told to whom it goes, not to whom it went
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, cors: {origins: ["https://app.example.com", "https://other.example"]}}]
--- http_config
proxy_cache_path $TEST_NGINX_SERVER_ROOT/cache keys_zone=c:1m;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / {
        add_header Access-Control-Allow-Origin $http_origin always;
        add_header Cache-Control max-age=60 always;
        add_header ETag '"x"' always;
        return 200 "$http_origin\n";
    }
}
--- config
location / { gateway_pass gateway; proxy_cache c; proxy_cache_valid 200 1m; add_header X-Cache $upstream_cache_status always; }
--- request
GET /
--- more_headers eval: $::App
--- response_headers
X-Cache: MISS
Access-Control-Allow-Origin: https://app.example.com
--- after_request eval
sub {
    my $other = get('/', headers => 'Origin: https://other.example');
    is("$other->{headers}{'x-cache'} $other->{body}", "HIT https://app.example.com\n", 'a hit');
    is_deeply(told('/', 'Origin: https://other.example'), [200, 'Access-Control-Allow-Origin: https://other.example', 'Vary: Origin'], 'to another');
    is_deeply(told('/', $main::Evil), [200, 'Vary: Origin'], 'to one that may not');
    is_deeply(told('/', $main::App . "\nIf-None-Match: \"x\""), [304, $main::Allow, 'Vary: Origin'], 'unchanged');
}


=== gzip's own Vary stands beside ours
--- config
location / { gateway_pass gateway; gzip on; gzip_vary on; gzip_min_length 1; gzip_types *; gzip_proxied any; }
--- request
GET /app/1
--- after_request eval
sub {
    my $told = told('/app/1', "$main::App\nAccept-Encoding: gzip");
    is_deeply($told, [200, $main::Allow, 'Vary: Accept-Encoding', 'Vary: Origin'], 'each once');
}


=== an internal redirect takes the other route's word
--- config
location / { gateway_pass gateway; }
location /app/go { gateway on; try_files /none /said; }
location /go { gateway on; try_files /none /app/said; }
--- request
GET /app/1
--- after_request eval
sub {
    is(CORE::join('|', @{told('/app/go', $main::App)}[0, 1]), '200|Access-Control-Allow-Origin: https://evil.example', 'from a route with cors to one without');
    is_deeply(told('/go', $main::App), [200, $main::Allow, 'Vary: Accept-Language', 'Vary: Origin'], 'and back');
}


=== HTTP/2
--- skip_eval: 6: library() ne 'own'
--- http2
--- request eval
["OPTIONS /private/1", "GET /app/said"]
--- more_headers eval
["$::App\nAccess-Control-Request-Method: PUT", $::App]
--- error_code eval
[204, 200]
--- response_headers eval
["Access-Control-Allow-Origin: https://app.example.com\nAccess-Control-Allow-Methods: PUT", "Access-Control-Allow-Origin: https://app.example.com\n! Access-Control-Allow-Credentials"]


=== an edit changes it on both workers, and a reload keeps it
--- request
GET /app/1
--- after_request eval
sub {
    my $allowed = sub { $_[0]{headers}{'access-control-allow-origin'} // 'nothing' };
    ok(edit('[GET, POST], upstream: u, cors: {origins: ["https://app.example.com"]}', '[GET, POST], upstream: u, cors: {origins: ["https://new.example"]}',
        sub { $allowed->(get('/app/1', headers => 'Origin: https://new.example')) ne 'nothing' }), 'live within a second');
    is($allowed->($_), 'https://new.example', 'on each worker') for each_worker('/app/1', headers => 'Origin: https://new.example');
    is($allowed->($_), 'nothing', 'the old one is gone') for each_worker('/app/1', headers => $main::App);
    ok(reload(), 'reload');
    is($allowed->($_), 'https://new.example', 'after a reload') for each_worker('/app/1', headers => 'Origin: https://new.example');
}


=== misconfigured: an origin with a path, anybody with credentials, a header that is none
--- gateway
version: 1
routes:
  - {name: a, paths: ["/a"], cors: {origins: ["https://app.example.com/"]}}
  - {name: b, paths: ["/b"], cors: {origins: ["*"], credentials: true}}
  - {name: c, paths: ["/c"], cors: {origins: ["*", "https://a.example"], headers: ["x y"]}}
  - {name: d, paths: ["/d"], cors: {}}
  - {name: e, paths: ["/e"], cors: {origins: [app.example.com], max_age: 2d, allow_credentials: true}}
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: routes\[0\]\.cors\.origins\[0\]: an origin has no path: write `https:\/\/app\.example\.com`/,
 qr/gateway\.yaml:4: routes\[1\]\.cors\.origins: `\*` and `credentials: true` exclude each other/,
 qr/gateway\.yaml:5: routes\[2\]\.cors\.headers\[0\]: must be the name of a header/,
 qr/gateway\.yaml:6: routes\[3\]\.cors: .*`origins`/, qr/gateway\.yaml:7: routes\[4\]\.cors\.origins\[0\]: must be `\*` or an origin/,
 qr/gateway\.yaml:7: routes\[4\]\.cors\.max_age/, qr/gateway\.yaml:7: routes\[4\]\.cors: unknown field `allow_credentials`: our word is `credentials`|our word is `credentials`/]
--- suppress_stderr
