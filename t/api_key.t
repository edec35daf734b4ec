# API keys: where they are looked for, who is let in, and what a client and a log learn.

use lib 't';
use Gateway 'no_plan';

use Digest::SHA qw(sha256_hex);

our $Clear = $ENV{T_KEY} = 'k3yOfAcme-0123456789abcdef';
our $Hashed = 'another.key+of/Acme=0123456789';
our $Gone = 'the-key-of-one-who-is-gone';
our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_KEY', 'T_SECRET');

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth:
  - {name: keys, api_key: {}}
  - {name: everywhere, api_key: {header: X-Key, query: key, cookie: k}}
  - {name: maybe, optional: true, api_key: {}}
  - {name: tokens, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "\$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}
roles: [{name: reader, permissions: ["orders:read"]}]
consumers:
  - {name: acme, api_key: ["\$env://T_KEY", "sha256:@{[sha256_hex($::Hashed)]}"], roles: [reader]}
  - {name: gone, api_key: "sha256:@{[sha256_hex($::Gone)]}", enabled: false}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: keys, paths: ["/keys/*"], upstream: u, auth: [keys]}
  - {name: everywhere, paths: ["/everywhere/*"], upstream: u, auth: [everywhere]}
  - {name: maybe, paths: ["/maybe/*"], upstream: u, auth: [maybe]}
  - {name: either, paths: ["/either/*"], upstream: u, auth: [tokens, keys]}
  - {name: shown, paths: ["/headers"], upstream: u, auth: [tokens, keys]}
  - {name: reads, paths: ["/reads/*"], upstream: u, auth: [keys], permissions: {any: ["orders:read"]}}
  - {name: writes, paths: ["/writes/*"], upstream: u, auth: [keys], permissions: {any: ["orders:write"]}}
YAML
    # The path alone: a key in a query is a secret, and nginx's own formats would write it.
    $block->set_value(http_config => "log_format reason '\$uri \$status reason=\$gateway_reason consumer=\$gateway_consumer';\n"
        . "access_log logs/access.log reason;\n" . ($block->http_config // ''));
});

run_tests();

__DATA__

=== in a header, whatever its case
--- request eval
["GET /keys/1", "GET /keys/2", "GET /keys/3", "GET /keys/4", "GET /keys/5", "GET /keys/6"]
--- more_headers eval
["X-API-Key: $::Clear", "x-api-key: $::Hashed", "", "X-API-Key:", "X-API-Key: $::Clear\nX-API-Key: $::Clear", "X-Key: $::Clear"]
--- error_code eval
[200, 200, 401, 401, 401, 401]
--- response_body_like eval
["one GET /keys/1", "one GET /keys/2", '"code":"auth\.missing"', '"code":"auth\.missing"', '"code":"auth\.invalid"', '"code":"auth\.missing"']


=== in a query or a cookie, where the entry says so
--- request eval
["GET /everywhere/1?a=b&key=$::Clear", "GET /everywhere/2", "GET /everywhere/3", "GET /everywhere/4?key=x&key=$::Clear",
 "GET /everywhere/5", "GET /everywhere/6", "GET /keys/7?key=$::Clear", "GET /keys/8"]
--- more_headers eval
["", "Cookie: a=b; k=$::Clear; c=d", "X-Key: $::Clear", "", "Cookie: k=$::Clear; k=$::Clear", "X-API-Key: $::Clear",
 "", "Cookie: k=$::Clear"]
--- error_code eval
[200, 200, 200, 401, 401, 401, 401, 401]


=== 401 says how to ask, the log says why not, and neither shows a key
--- request
GET /keys/none
--- error_code: 401
--- response_headers
WWW-Authenticate: Key
Content-Type: application/problem+json
! X-Backend
--- after_request eval
sub {
    my %answers;
    for (['unknown', 'nobody-has-this-key-at-all'], ['malformed', 'with a blank in it'], ['gone', $main::Gone], ['long', 'x' x 513],
        ['near', $main::Clear =~ s/.\z/0/r], ['case', lc $main::Clear], ['hash', 'sha256:' . main::sha256_hex($main::Clear)],
        ['digest', main::sha256_hex($main::Clear)])
    {
        my ($name, $key) = @$_;
        my $answer = get("/keys/$name", headers => "X-API-Key: $key");
        is($answer->{status}, 401, $name);
        unlike(CORE::join(' ', $answer->{body}, %{$answer->{headers}}), qr/\Q$key\E/, 'the key is not in the answer');
        $answer->{body} =~ s/"request_id":"[^"]*"//;
        $answers{"$answer->{headers}{'www-authenticate'} $answer->{body}"}++;
    }
    is(scalar keys %answers, 1, 'one answer for all') or diag(CORE::join "\n", keys %answers);
    is(get("/everywhere/no?key=$main::Gone")->{status}, 401, 'in a query');
    is(get('/everywhere/yes', headers => "Cookie: k=$main::Clear")->{status}, 200, 'in a cookie');
    my $log;
    until_true(2, sub { ($log = accesses()) =~ m{^/everywhere/yes }m });
    like($log, qr{^/keys/$_->[0] 401 reason=\Q$_->[1]\E consumer=-$}m, "@$_")
        for ['none', 'auth.missing'], ['unknown', 'auth.key_unknown'], ['malformed', 'auth.malformed'], ['gone', 'auth.consumer'],
        ['long', 'auth.malformed'], ['near', 'auth.key_unknown'], ['case', 'auth.key_unknown'], ['digest', 'auth.key_unknown'];
    unlike($log =~ s/"GET [^"]*"//gr, qr/\Q$_\E/, 'no key in our lines') for $main::Clear, $main::Hashed, $main::Gone;
    unlike(errors(), qr/\Q$_\E/, 'nor in the error log') for $main::Clear, $main::Hashed, $main::Gone;
    unlike(get('/metrics')->{body}, qr/\Q$main::Clear\E|@{[main::sha256_hex($main::Clear)]}/, 'nor in the metrics');
}
--- no_error_log
[alert]
[error]


=== optional: the anonymous pass, a bad key does not
--- request eval
["GET /maybe/1", "GET /maybe/2", "GET /maybe/3"]
--- more_headers eval
["", "X-API-Key: nobody-has-this-key", "X-API-Key: $::Clear"]
--- error_code eval
[200, 401, 200]


=== any of two: a token or a key, each of which may be bad
--- request
GET /either/none
--- error_code: 401
--- after_request eval
sub {
    my $raw = exchange("GET /either/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    is(CORE::join(' ', $raw =~ /^WWW-Authenticate: (.*)\r$/mg), 'Bearer Key', 'a line for each');
    my $token = jwt({iss => 'i', aud => 'a', sub => 'ada'}, $main::Secret);
    my ($good, $bad) = ("X-API-Key: $main::Clear", 'X-API-Key: nobody-has-this-key');
    for (["Authorization: Bearer $token", 200, 'ada'], [$good, 200, 'acme'], ["Authorization: Bearer $token\r\n$bad", 200, 'ada'],
        ["Authorization: Bearer x.y.z\r\n$good", 200, 'acme'], ["Authorization: Bearer x.y.z\r\n$bad", 401, '-'],
        ["Authorization: Basic YTpi\r\n$good", 200, 'acme'])
    {
        my ($headers, $status, $consumer) = @$_;
        my $path = '/either/' . ++$main::Number;
        is(get($path, headers => $headers)->{status}, $status, "$path for $consumer");
        ok(until_true(2, sub { accesses() =~ m{^$path $status reason=\S+ consumer=\Q$consumer\E$}m }), "$path is $consumer");
    }
    like(get('/headers', headers => "Authorization: Bearer $token")->{body}, qr/user=ada$/, 'a token has claims');
    like(get('/headers', headers => "$good\r\nX-User: root")->{body}, qr/user=$/, 'a key has none, and nobody forges them');
}


=== what the consumer may do
--- request eval
["GET /reads/1", "GET /writes/1"]
--- more_headers eval
["X-API-Key: $::Clear", "X-API-Key: $::Clear"]
--- error_code eval
[200, 403]
--- response_body_like eval
["one GET /reads/1", "permission.missing"]


=== an edit takes a key away at once, on each worker; a reload keeps that
--- request
GET /keys/
--- error_code: 401
--- after_request eval
sub {
    my ($clear, $hashed, $gone) = map { "X-API-Key: $_" } $main::Clear, $main::Hashed, $main::Gone;
    is($_->{status}, 200, 'known') for each_worker('/keys/', headers => $hashed);
    edit('"sha256:' . main::sha256_hex($main::Hashed) . '"', '', sub { get('/keys/', headers => $hashed)->{status} == 401 });
    is($_->{status}, 401, 'refused') for each_worker('/keys/', headers => $hashed);
    is($_->{status}, 200, 'the other one is not') for each_worker('/keys/', headers => $clear);
    edit('enabled: false', 'enabled: true', sub { get('/keys/', headers => $gone)->{status} == 200 });
    ok(reload(), 'reload');
    is($_->{status}, 401, 'after a reload') for each_worker('/keys/', headers => $hashed);
    is($_->{status}, 200, 'after a reload') for each_worker('/keys/', headers => $gone);
}


=== misconfigured: a key of two, a short one, half a hash
--- gateway
version: 1
auth: [{name: k, api_key: {header: "no header"}}]
consumers:
  - {name: a, api_key: "$env://T_KEY"}
  - {name: b, api_key: ["$env://T_KEY"]}
  - {name: c, api_key: short}
  - {name: d, api_key: "sha256:12"}
  - {name: e, api_key: "$env://NOBODY_SETS_THIS"}
routes: [{name: r, paths: ["/*"], auth: [k]}]
--- must_die
--- error_log
auth[0].api_key.header:
consumers[1].api_key: has an API key that consumers[0] has too
consumers[2].api_key: the key has 5 bytes
consumers[3].api_key: `sha256:` is followed by
consumers[4].api_key: the environment variable `NOBODY_SETS_THIS` is not set
--- suppress_stderr
