# HTTP/3 in front: each stream is a request like any other. Routes, refusals, bodies, limits, nginx's own modules beside.

use lib 't';
use Gateway 'no_plan';
use JSON::PP ();

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
$ENV{TEST_NGINX_BACKEND} = backend();

our $Token  = jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);
our $Keys   = File::Temp->newdir;
system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    . " -keyout $Keys/key.pem -out $Keys/cert.pem 2>/dev/null") == 0 or die "no certificate\n";

# The Python that has aioquic: `.ci/deps test` makes one.
our ($Python) = grep { -x && system("$_ -c 'import aioquic' 2>/dev/null") == 0 } $ENV{GATEWAY_HTTP3_PYTHON} // (),
    'target/http3/bin/python', '/usr/bin/python3';

# True where nginx listens and somebody can ask.
sub Test::Nginx::Util::http3 {
    return 0 if !Gateway::has('--with-http_v3_module');
    return 1 if defined $Python;
    Test::More::diag('skipped: no Python with aioquic: make deps');
    return 0;
}

# All requests on one connection: a list of {status, headers, body}.
sub Test::Base::Filter::ask {
    my @requests = map { ref ? $_ : {path => $_} } @_;
    my $port = Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_6', 'port', $Test::Nginx::Util::RandPorts);
    my $input = File::Temp->new;
    print $input JSON::PP::encode_json(\@requests);
    close $input;
    my $said = `timeout 30 $main::Python t/lib/http3 $port < $input 2>&1`;
    my $answers = eval { JSON::PP::decode_json($said) };
    Test::More::diag($said) if !$answers;
    return $answers ? @$answers : map { +{status => 0, body => '', headers => {}} } @requests;
}

# The port over QUIC, and beside it over TCP as everywhere.
add_block_preprocessor(sub {
    my $block = shift;
    my $listen = "listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_6 quic;\nssl_certificate $main::Keys/cert.pem;\n"
        . "ssl_certificate_key $main::Keys/key.pem;\nadd_header X-Route \$gateway_route always;\n";
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: people, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}]
limiters: [{name: few, key: [ip], rate: 1/h, burst: 2}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: echo, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: named, hosts: [api.example], paths: ["/*"], upstream: u}
  - {name: posts, methods: [POST], paths: ["/a"], upstream: u}
  - {name: echo, paths: ["/echo"], upstream: echo}
  - {name: private, paths: ["/private/*"], upstream: u, auth: [people]}
  - {name: vault, hosts: [vault.example], paths: ["/*"], upstream: u, auth: [people]}
  - {name: limited, paths: ["/limited"], upstream: u, limits: [few]}
YAML
    $block->set_value(config => $listen . ($block->config // 'location / { gateway_pass gateway; client_max_body_size 3m; }'));
});

run_tests();

__DATA__

=== by host, by method, by path: as in HTTP/1.1
--- skip_eval: 10: !http3()
--- request
GET /
--- error_code: 200
--- after_request eval
[sub {
    my @answers = ask('/a', {path => '/a', authority => 'api.example'}, {path => '/a', method => 'POST'},
        {path => '/headers', authority => 'api.example', headers => [['x-request-id', 'seen-by-me']]});
    is("@{[map { $_->{status} } @answers]}", '200 200 200 200', 'all answered');
    is("@{[map { $_->{headers}{'x-route'} } @answers]}", 'all named posts named', 'each by its route');
    is($answers[2]{body}, "one POST /a\n", 'the method goes on');
    like($answers[3]{body}, qr/^host=api\.example xff=127\.0\.0\.1 /, 'and the host, and the address');
}]


=== refused without a token, with a problem as the body; let in with one
--- skip_eval: 10: !http3()
--- request
GET /
--- error_code: 200
--- after_request eval
[sub {
    my @answers = ask('/private/a', {path => '/private/a', headers => [['authorization', 'Bearer nonsense']]},
        {path => '/headers', authority => 'vault.example',
         headers => [['authorization', "Bearer $main::Token"], ['x-user', 'eve']]});
    is("@{[map { $_->{status} } @answers]}", '401 401 200', 'two refused');
    like($answers[0]{body}, qr/auth\.missing/, 'the one for no token');
    is($answers[0]{headers}{'content-type'}, 'application/problem+json', 'a problem');
    like($answers[0]{headers}{'www-authenticate'}, qr/^Bearer/, 'that says how');
    is($answers[2]{headers}{'x-route'}, 'vault', 'by its route');
    like($answers[2]{body}, qr/user=ada$/, 'and its claims go on, not what the client says');
}]


=== bodies: one that fits into a packet, and a megabyte; one that is too large is 413
--- skip_eval: 8: !http3()
--- request
GET /
--- error_code: 200
--- after_request eval
[sub {
    my @answers = ask(map { +{path => '/echo', method => 'POST', body => $_} } 'small', 'z' x 1_000_000);
    is("@{[map { $_->{status} } @answers]}", '200 200', 'both answered');
    is($answers[0]{body}, 'small', 'the small one came back');
    ok($answers[1]{body} eq 'z' x 1_000_000, 'the large one came back');
    my ($refused) = ask({path => '/echo', method => 'POST', body => 'z' x 4_000_000});
    is($refused->{status}, 413, 'nginx has the last word on the size');
}]
--- no_error_log
[alert]
[emerg]


=== limits count streams, whatever connection they come on
--- skip_eval: 7: !http3()
--- request
GET /
--- error_code: 200
--- after_request eval
[sub {
    my @answers = map { ask('/limited') } 1 .. 3;
    is("@{[map { $_->{status} } @answers]}", '200 200 429', 'two and no more');
    like($answers[2]{body}, qr/limit\.exceeded/, 'said so');
    is(get('/limited')->{status}, 429, 'and it is the same limit over TCP');
}]


=== neighbours in the same location: allow and deny, auth_request, error_page, an internal redirect
--- skip_eval: 8: !http3()
--- config
location / { gateway_pass gateway; }
location /denied { gateway_pass gateway; deny all; }
location /asked { auth_request /check; gateway_pass gateway; }
location = /check { internal; return 403; }
location /private/ { gateway_pass gateway; error_page 401 = @told; }
location @told { return 418 "told\n"; }
location /away { rewrite ^ /private/x last; }
--- request
GET /
--- error_code: 200
--- after_request eval
[sub {
    my @answers = ask('/denied', '/asked', '/private/x', '/away', '/a');
    is("@{[map { $_->{status} } @answers]}", '403 403 418 418 200', 'each as over TCP');
    is($answers[2]{body}, "told\n", 'the error page');
    is(CORE::join(' ', map { get($_)->{status} } '/denied', '/asked', '/private/x', '/away', '/a'), '403 403 418 418 200', 'over TCP');
}]
--- no_error_log
[alert]
[emerg]
