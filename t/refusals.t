# Every refusal in each of its forms: problem details, HTML for people, trailers for gRPC, nginx's own page.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

# What is refused: [method, path, headers, status, code, title, gRPC status].
our @Refusals = (
    ['GET', '/a%2fb', '', 400, 'path.refused', 'Bad Request', 3],
    ['GET', '/private/', '', 401, 'auth.missing', 'Unauthorized', 16],
    ['GET', '/private/', 'Authorization: Bearer x', 401, 'auth.invalid', 'Unauthorized', 16],
    ['GET', '/locked/', $Token, 403, 'permission.missing', 'Forbidden', 7],
    ['GET', '/none', '', 404, 'route.none', 'Not Found', 12],
    ['PUT', '/read/', '', 405, 'route.method', 'Method Not Allowed', 12],
    ['GET', '/limited/', '', 429, 'limit.exceeded', 'Too Many Requests', 8],
    ['GET', '/broken/', '', 503, 'breaker.open', 'Service Unavailable', 14],
);

our $Plain = <<'YAML';
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/a", "/headers"], methods: [GET, PUT], upstream: u}, {name: plain, paths: ["/plain"], upstream: u, protocols: [http]}]
YAML

package Test::Base::Filter {

    sub refused {
        my ($refusal, $more) = @_;
        my ($method, $path, $headers) = @$refusal;
        return get($path, method => $method, headers => CORE::join("\r\n", grep { length } $headers, $more));
    }

    # The limit is spent, the breaker open.
    sub prepared {
        get('/limited/');
        get('/broken/');
        get('/broken/');
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {permissions: permissions}}}]
limiters: [{name: one, key: [global], rate: 1/h, burst: 1}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: dead, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}], retries: {attempts: 1}, breaker: {failures: 1, open_for: 60s}}
routes:
  - {name: private, paths: ["/private/*"], upstream: u, auth: [p]}
  - {name: locked, paths: ["/locked/*"], upstream: u, auth: [p], permissions: {any: [x]}}
  - {name: read, paths: ["/read/*"], upstream: u, methods: [GET]}
  - {name: limited, paths: ["/limited/*"], upstream: u, limits: [one]}
  - {name: broken, paths: ["/broken/*"], upstream: dead}
  - {name: plain, paths: ["/plain/*"], upstream: u, protocols: [http]}
YAML
    $block->set_value(http_config => "# Nobody is there to listen on 127.0.0.1:\$TEST_NGINX_RAND_PORT_2.\n" . ($block->http_config // ''));
    # The dead one is an error of its own.
    $block->set_value(no_error_log => "[alert]\n[emerg]") if !defined $block->must_die;
});

run_tests();

__DATA__

=== problem details (RFC 9457), the same on both workers
--- request
GET /read/
--- after_request eval
sub {
    prepared();
    for my $refusal (@main::Refusals) {
        my (undef, $path, undef, $status, $code, $title) = @$refusal;
        for my $accept ('', 'Accept: */*', 'Accept: application/json, text/html', 'Accept: application/problem+json') {
            my $answer = refused($refusal, $accept);
            my $name = "$code, $accept";
            is($answer->{status}, $status, $name);
            is($answer->{headers}{'content-type'}, 'application/problem+json', $name);
            my $body = eval { JSON::PP::decode_json($answer->{body}) } // {};
            is(CORE::join(' ', sort keys %$body), 'code detail request_id status title type', "$name: members");
            is("$body->{code}, $body->{status} $body->{title}", "$code, $status $title", $name);
            like($body->{request_id}, qr/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "$name: an id");
            is($answer->{headers}{'x-backend'}, undef, "$name: nobody was asked");
            unlike($answer->{body}, qr/nginx|127\.0\.0\.1|\Q$path\E/, "$name: it tells nothing");
        }
    }
    ok(refused($main::Refusals[$_])->{headers}{'retry-after'} > 0, "$main::Refusals[$_][4]: when to come back") for 6, 7;
    is(refused($main::Refusals[5])->{headers}{allow}, 'GET', 'what is allowed');
    is(refused($main::Refusals[1])->{headers}{'www-authenticate'}, 'Bearer', 'what to show');
    is($_->{status}, 503, 'on each worker') for each_worker('/broken/');
}


=== the client's request id comes back where it is harmless
--- request eval
["GET /none", "GET /none", "GET /none"]
--- more_headers eval
["X-Request-Id: abc-123_DEF.4", "X-Request-Id: a\"b,\"c\":\"d", "X-Request-Id: " . 'x' x 200]
--- error_code eval
[404, 404, 404]
--- response_body_like eval
['"request_id":"abc-123_DEF\.4"\}$', '"request_id":"[0-9a-f-]{36}"\}$', '"request_id":"[0-9a-f-]{36}"\}$']


=== HTML where Accept prefers it
--- request
GET /read/
--- after_request eval
sub {
    prepared();
    for my $refusal (@main::Refusals) {
        my (undef, undef, undef, $status, $code, $title) = @$refusal;
        my $answer = refused($refusal, 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8');
        is($answer->{status}, $status, $code);
        is($answer->{headers}{'content-type'}, 'text/html', $code);
        like($answer->{body}, qr{^<!DOCTYPE html>.*<title>$status $title</title>.*<h1>$status $title</h1>}s, $code);
    }
}


=== HTML is not what comes last, or what is not wanted at all
--- request eval
["GET /none", "GET /none", "GET /none"]
--- more_headers eval
["Accept: text/html;q=0.1, application/json", "Accept: text/html;q=0, */*", "Accept: application/json;q=0.2, text/html"]
--- error_code eval
[404, 404, 404]
--- response_headers eval
["Content-Type: application/problem+json", "Content-Type: application/problem+json", "Content-Type: text/html"]


=== gRPC: trailers alone, with the right status
--- request
GET /read/
--- after_request eval
sub {
    prepared();
    for my $refusal (@main::Refusals) {
        my (undef, undef, undef, undef, $code, undef, $grpc) = @$refusal;
        my $answer = refused($refusal, "Content-Type: application/grpc+proto\r\nAccept: text/html");
        is($answer->{status}, 200, $code);
        is($answer->{headers}{'content-type'}, 'application/grpc', $code);
        is($answer->{headers}{'grpc-status'}, $grpc, $code);
        is($answer->{headers}{'grpc-message'}, $code, $code);
        is($answer->{body}, '', $code);
    }
    is(refused(['POST', '/plain/', 'Content-Type: application/grpc'])->{headers}{'grpc-status'}, 7, 'a route that does not speak it');
    is(refused(['GET', '/plain/', "Connection: Upgrade\r\nUpgrade: websocket"])->{status}, 403, 'nor a WebSocket');
}


=== the location's error_page takes over
--- config
error_page 400 401 403 404 405 429 503 /page.txt;
location = /page.txt { root html; }
location / { gateway_pass gateway; }
--- user_files
>>> page.txt
a page of our own
--- request
GET /read/
--- after_request eval
sub {
    prepared();
    for my $refusal (@main::Refusals) {
        # An error page is fetched by GET.
        my $answer = refused($refusal);
        is($answer->{status}, $refusal->[3], $refusal->[4]);
        is($answer->{body}, "a page of our own\n", $refusal->[4]);
    }
}


=== request ids: a well-formed one is kept, others are replaced, and both go to the backend and into the body
--- gateway eval: $::Plain
--- request eval
["GET /headers", "GET /headers", "GET /headers", "GET /none"]
--- more_headers eval
["X-Request-Id: abc-123_4.5", "X-Request-Id: no good\"}", "", "X-Request-Id: abc-123_4.5"]
--- error_code eval
[200, 200, 200, 404]
--- response_body_like eval
['id=abc-123_4\.5 ', 'id=[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12} ', 'id=[0-9a-f]{8}-[0-9a-f]{4}-7', '"request_id":"abc-123_4\.5"']


=== a protocol that the route does not speak
--- gateway eval: $::Plain
--- request
GET /plain
--- more_headers
Upgrade: websocket
--- error_code: 403
--- response_body_like: route\.protocol


=== misconfigured: a protocol of nobody
--- gateway
version: 1
routes: [{name: r, paths: ["/*"], protocols: [htp]}]
--- must_die
--- error_log eval
qr/gateway\.yaml:2: routes\[0\]\.protocols\[0\]: must be one of `http`, `websocket`, `grpc`, found `htp`, did you mean `http`\?/
