# Errors that nginx answers by itself, in the form of refusals: `gateway_problem`, and refusals that come after access.

use lib 't';
use Gateway 'no_plan';

# Every kind: [path, options of `get`, status, title, gRPC status].
our @Kinds = (
    ['/files/a', {headers => 'Host: other'}, 400, 'Bad Request', 3],
    ['/files/b', {headers => 'X-Large: ' . 'x' x 3000}, 400, 'Bad Request', 3],
    ['/basic', {}, 401, 'Unauthorized', 16],
    ['/denied', {}, 403, 'Forbidden', 7],
    ['/files/none', {}, 404, 'Not Found', 12],
    ['/files/f', {method => 'POST'}, 405, 'Method Not Allowed', 12],
    ['/small', {method => 'POST', body => 'x' x 2000}, 413, 'Content Too Large', 8],
    ['/' . 'x' x 3000, {}, 414, 'URI Too Long', 3],
    ['/files/f', {headers => 'Range: bytes=900-'}, 416, 'Range Not Satisfiable', 11],
    ['/teapot', {}, 418, 'Client Error', 3],
    ['/broken', {}, 500, 'Internal Server Error', 13],
    ['/plain/dead', {}, 502, 'Bad Gateway', 14],
    ['/dead', {}, 502, 'Bad Gateway', 14],
    ['/busy', {}, 503, 'Service Unavailable', 14],
    ['/slow', {}, 504, 'Gateway Timeout', 4],
);

our $Browser = 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';

package Test::Base::Filter {

    sub kind {
        my ($kind, @more) = @_;
        my ($path, $options) = @$kind;
        return get($path, %$options, headers => CORE::join("\r\n", grep { defined && length } @more, $options->{headers}));
    }

    sub member {
        my ($answer, $name) = @_;
        return (eval { JSON::PP::decode_json($answer->{body}) } // {})->{$name};
    }

    sub nginx_says {
        my ($answer, $status, $name) = @_;
        is($answer->{status}, $status, "$name: status");
        like($answer->{headers}{'content-type'}, qr{^text/html}, "$name: nginx's type") if length $answer->{body};
        like($answer->{body}, $status == 418 ? qr/^$/ : qr{<hr><center>nginx/}, "$name: nginx's page");
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: dead, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}], retries: {attempts: 1}}
routes:
  - {name: all, paths: ["/*"], upstream: u, limits: []}
  - {name: dead, paths: ["/dead"], upstream: dead, cors: {origins: ["https://app.example"]}}
YAML
    $block->set_value(http_config => <<'CONF' . ($block->http_config // ''));
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_3; who connects to the next is not answered.
large_client_header_buffers 4 2k;
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4; location / { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_5; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5; limit_rate 1; location / { return 200 "slow\n"; } }
CONF
    my $on = defined $block->flag ? $block->flag : 'gateway_problem on;';
    $block->set_value(config => <<"CONF") if !defined $block->config;
$on
add_header X-Kept kept always;
location / { gateway_pass gateway; }
location /files/ { alias html/; }
location /basic { auth_basic realm; auth_basic_user_file /dev/null; root html; }
location /denied { deny all; root html; }
location /small { client_max_body_size 1k; gateway_pass gateway; }
location /teapot { return 418; }
location /broken { return 500; }
location /plain/dead { proxy_pass http://127.0.0.1:\$TEST_NGINX_RAND_PORT_3; }
location /busy { return 503; }
location /slow { proxy_read_timeout 100ms; proxy_pass http://127.0.0.1:\$TEST_NGINX_RAND_PORT_5; }
CONF
    $block->set_value(user_files => (ref $block->user_files ? $block->user_files : ">>> f\nfile\n" . ($block->user_files // '')));
    # Errors are what this is about.
    $block->set_value(no_error_log => "[alert]\n[emerg]") if !defined $block->must_die;
});

run_tests();

__DATA__

=== every kind, as problem details
--- request
GET /
--- after_request eval
sub {
    for my $kind (@main::Kinds) {
        my ($path, $options, $status, $title) = @$kind;
        my $name = "$status " . substr $path, 0, 20;
        my $answer = kind($kind);
        is($answer->{status}, $status, $name);
        is($answer->{headers}{'content-type'}, 'application/problem+json', "$name: type");
        is($answer->{headers}{'content-length'}, length $answer->{body}, "$name: length");
        my $body = eval { JSON::PP::decode_json($answer->{body}) } // {};
        is(CORE::join(' ', sort keys %$body), 'code detail request_id status title type', "$name: members");
        is("$body->{type} $body->{code} $body->{status} $body->{title}", "about:blank nginx.$status $status $title", $name);
        like($body->{request_id}, qr/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "$name: an id");
        unlike($answer->{body}, qr/<html|127\.0\.0\.1|\Q$path\E/, "$name: it tells nothing, and nginx's page is gone");
    }
    is(kind($main::Kinds[2])->{headers}{'www-authenticate'}, 'Basic realm="realm"', 'what to show stays');
    is(kind($main::Kinds[4])->{headers}{'x-kept'}, 'kept', 'add_header always');
    is(kind($main::Kinds[4])->{headers}{'last-modified'}, undef, 'no validator');
    is(kind($main::Kinds[12], 'Origin: https://app.example')->{headers}{'access-control-allow-origin'}, 'https://app.example', 'cors');
    is(member(kind($main::Kinds[4], 'X-Request-Id: abc-123_4.5'), 'request_id'), 'abc-123_4.5', "the client's id");
}


=== nginx's page where Accept prefers HTML, trailers for gRPC
--- request
GET /
--- after_request eval
sub {
    for my $kind (@main::Kinds) {
        my (undef, undef, $status, undef, $grpc) = @$kind;
        # This one comes before the headers that would say so.
        next if $status == 414;
        nginx_says(kind($kind, $main::Browser), $status, "$status HTML");
        my $answer = kind($kind, "Content-Type: application/grpc+proto\r\nAccept: text/html");
        is($answer->{status}, 200, "$status gRPC");
        is($answer->{headers}{'content-type'}, 'application/grpc', "$status gRPC: type");
        is($answer->{headers}{'grpc-status'}, $grpc, "$status gRPC: status");
        is($answer->{headers}{'grpc-message'}, "nginx.$status", "$status gRPC: message");
        is($answer->{body}, '', "$status gRPC: no body");
    }
}


=== off by default
--- flag
--- request
GET /
--- after_request eval
sub { nginx_says(kind($_), $_->[2], $_->[0]) for @main::Kinds }


=== inheritance
--- http_config
gateway_problem on;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
    gateway_problem off;
    location / { return 404; }
    location /on { gateway_problem on; return 404; location /on/again { return 403; } }
}
--- config
location / { root html; }
location /off { gateway_problem off; return 404; location /off/again { return 403; } }
--- request
GET /f
--- after_request eval
sub {
    is(member(get('/none'), 'code'), 'nginx.404', 'from http');
    nginx_says(get('/off'), 404, 'off');
    nginx_says(get('/off/again'), 403, 'off below');
    my %other = (port => $Test::Nginx::Util::RandPorts->{TEST_NGINX_RAND_PORT_6} // $ENV{TEST_NGINX_RAND_PORT_6});
    nginx_says(get('/none', %other), 404, 'another server');
    is(member(get('/on', %other), 'code'), 'nginx.404', 'on in a location');
    is(member(get('/on/again', %other), 'code'), 'nginx.403', 'on below');
}


=== what servers and locations answer themselves is left alone
--- config
gateway_problem on;
location / { gateway_pass gateway; }
location /plain/ { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/; }
location /text { return 404 "text\n"; }
location /empty { return 204; }
location /moved { return 301 /elsewhere; }
location /intercepted/ { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/; proxy_intercept_errors on; error_page 404 @gone; error_page 503 /page.txt; }
location @gone { return 410; }
location = /page.txt { root html; }
--- user_files
>>> page.txt
a page
--- request
GET /
--- after_request eval
sub {
    for my $status (400, 404, 500, 502, 503) {
        for my $path ("/status/$status", "/plain/status/$status") {
            my $answer = get($path);
            is("$answer->{status} $answer->{body}", "$status one $status\n", $path);
            is($answer->{headers}{'content-type'}, 'text/plain', "$path: type");
        }
    }
    is(get('/text')->{body}, "text\n", 'return with a text');
    is(get('/empty')->{status}, 204, 'no error');
    like(get('/moved')->{body}, qr/<html>/, 'nor is a redirect');
    is(member(get('/intercepted/status/404'), 'code'), 'nginx.410', "an upstream's error that led to one of nginx's");
    is(get('/intercepted/status/503')->{body}, "a page\n", 'or to a page');
    is(get('/intercepted/status/500')->{body}, "one 500\n", 'or to nothing');
}


=== error_page has the last word
--- config
gateway_problem on;
error_page 404 /page.html;
error_page 403 @text;
location / { root html; }
location /denied { deny all; }
location @text { default_type text/html; return 403 "<b>text</b>\n"; }
location /again/ { error_page 404 = @again; root html; }
location @again { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
location /turned/ { error_page 404 =403 @html; root html; }
location @html { default_type text/html; return 404 "<b>turned</b>\n"; }
location /proxied/ { error_page 404 @proxied; root html; }
location @proxied { rewrite ^ /status/404 break; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
location /index/ { try_files $uri /missing/index; root html; }
location /missing/ { return 500; }
location /lost/ { error_page 404 /missing.html; root html; }
location = /missing.html { root html; error_page 500 /; }
location /deep/ { recursive_error_pages on; error_page 404 /deeper/; root html; }
location /deeper/ { recursive_error_pages on; error_page 405 @text; deny all; error_page 403 @deep; }
location @deep { default_type text/html; return 403 "<b>deep</b>\n"; }
--- user_files
>>> page.html
<b>a page</b>
--- request
GET /f
--- after_request eval
sub {
    my @told = map { my $answer = get($_); "$answer->{status} $answer->{body}" } '/none', '/denied', '/turned/x', '/proxied/x', '/deep/x';
    is($told[0], "404 <b>a page</b>\n", 'a file');
    is($told[1], "403 <b>text</b>\n", 'a text');
    is($told[2], "403 <b>turned</b>\n", 'another status');
    is($told[3], "404 one 404\n", 'an upstream');
    is($told[4], "403 <b>deep</b>\n", 'pages of pages');
    nginx_says(get('/lost/x'), 404, 'a page that is not there');
    is(member(get('/again/x'), 'code'), 'nginx.502', 'what comes instead fails by itself');
    is(member(get('/index/x'), 'code'), 'nginx.500', 'a redirect that is none of error_page');
}


=== HEAD, HTTP/1.0, connections that are kept, HTTP/2
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6 http2; gateway_problem on; location / { root html; } }
--- config
gateway_problem on;
location / { root html; }
--- request
GET /f
--- after_request eval
sub {
    my $kept = exchange("HEAD /none HTTP/1.1\r\nHost: h\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\n\r\nPOST /f HTTP/1.1\r\nHost: h\r\n"
        . "Content-Length: 3\r\n\r\nabcGET /f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    is(CORE::join(' ', $kept =~ m{HTTP/1\.1 (\d+)}g), '404 404 405 200', 'four on one connection');
    my @lengths = $kept =~ /Content-Length: (\d+)/g;
    is($lengths[0], $lengths[1], 'HEAD says the length of GET');
    is(scalar(() = $kept =~ /"code":"nginx\.404"/g), 1, 'HEAD has no body');
    like($kept, qr/"code":"nginx\.405".*\}\nHTTP.*file\n\z/s, 'and what follows is read right');
    my $old = exchange("GET /none HTTP/1.0\r\n\r\n");
    like($old, qr{^HTTP/1\.1 404 .*\r\n\r\n\{"type".*"nginx\.404".*\}\n\z}s, 'HTTP/1.0');
    like(exchange("GET /none\r\n"), qr/^<html>/, 'HTTP/0.9 has no types');
    like(exchange("BROKEN\r\n\r\n"), qr{^HTTP/1\.1 400 .*"nginx\.400"}s, 'no request at all');
    my $port = $Test::Nginx::Util::RandPorts->{TEST_NGINX_RAND_PORT_6} // $ENV{TEST_NGINX_RAND_PORT_6};
    my $h2 = `curl -si --http2-prior-knowledge http://127.0.0.1:$port/none`;
    like($h2, qr{^HTTP/2 404.*content-type: application/problem\+json.*"nginx\.404".*\}\n\z}s, 'HTTP/2');
    is(`curl -sI --http2-prior-knowledge http://127.0.0.1:$port/none -o /dev/null -w '%{http_code} %{size_download}'`, '404 0', 'HTTP/2 HEAD');
}


=== nobody to ask after access: our refusal without the directive, unless the location has a page
--- gateway
version: 1
upstreams: [{name: weak, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], breaker: {failures: 1, open_for: 60s}}, {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: gone}]
--- http_config
upstream weak { gateway_balancer weak; }
--- config
add_header X-Reason "$gateway_decision $gateway_reason" always;
location / { proxy_pass http://weak; }
location /paged { proxy_pass http://weak; error_page 502 /page; }
location /page { return 200 "a page\n"; }
location /upload { gateway_pass gateway; gateway_debug_headers on; }
--- request
GET /status/500
--- error_code: 500
--- after_request eval
sub {
    for my $accept ('', $main::Browser) {
        my $answer = get('/a', headers => $accept);
        is($answer->{status}, 503, 'not a bad gateway');
        cmp_ok($answer->{headers}{'retry-after'}, '>', 50, 'when to come back');
        is($answer->{headers}{'x-reason'}, 'refuse breaker.open', 'as the variables say');
        like($answer->{body}, $accept ? qr{<h1>503 Service Unavailable</h1>} : qr/"code":"breaker\.open"/, 'why');
    }
    is(get('/paged')->{body}, "a page\n", "the location's page");
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Gateway::server('port'));
    print $socket "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nab";
    $socket->flush;
    sleep 0.3;
    document("version: 1\n", sub { get('/upload')->{status} == 404 }) or ok(0, 'the edit came');
    print $socket "cd";
    $socket->flush;
    my $text = do { local $/; <$socket> };
    like($text, qr{^HTTP/1\.1 503 .*Retry-After: 1\r\n.*"code":"upstream\.gone"}s, 'an upstream that went while the body came');
    like($text, qr/X-Gateway-Reason: upstream\.gone/, 'its headers for debugging');
}


=== a body that grows too long: the same
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, max_body: 10}]
--- config
add_header X-Reason "$gateway_decision $gateway_reason" always;
location / { gateway_pass gateway; }
location /streamed { gateway_pass gateway; proxy_request_buffering off; }
location /paged { gateway_pass gateway; error_page 413 /page.txt; }
location = /page.txt { root html; }
location /shadow { gateway shadow; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; client_max_body_size 10; }
--- user_files
>>> page.txt
a page
--- request
GET /
--- after_request eval
sub {
    my $put = sub {
        my ($path, @headers) = @_;
        return exchange(CORE::join "\r\n", "PUT $path HTTP/1.1", 'Host: h', 'Connection: close', @headers,
            'Transfer-Encoding: chunked', '', '8', 'x' x 8, '8', 'x' x 8, '0', '', '');
    };
    for my $path ('/a', '/streamed') {
        my $text = $put->($path);
        like($text, qr{^HTTP/1\.1 413 .*Content-Type: application/problem\+json.*"title":"Content Too Large","status":413,.*"code":"body\.too_large"}s, $path);
        like($text, qr/X-Reason: refuse body\.too_large/, "$path: variables");
    }
    like($put->('/a', $main::Browser), qr{<h1>413 Content Too Large</h1>}, 'HTML');
    like($put->('/a', 'Content-Type: application/grpc'), qr/^HTTP\S+ 200 .*grpc-status: 8\r\ngrpc-message: body\.too_large/s, 'gRPC');
    like($put->('/paged'), qr/^HTTP\S+ 413 .*a page\n\z/s, "the location's page");
    like($put->('/shadow'), qr/^HTTP\S+ 413 .*<center>nginx/s, 'in a shadow it is nginx that refuses');
}


=== a value that is none
--- http_config
gateway_problem maybe;
--- must_die
--- error_log eval
qr/invalid value "maybe" in "gateway_problem" directive, it must be "on" or "off" in \S+nginx.conf:\d+/
--- suppress_stderr


=== twice
--- config
gateway_problem on;
gateway_problem on;
--- must_die
--- error_log eval
qr/"gateway_problem" directive is duplicate in \S+nginx.conf:\d+/
--- suppress_stderr
