# Tokens: who is let in, who is not and what that one learns, and what a backend is told of the caller.

use lib 't';
use Gateway 'no_plan';

use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64url decode_base64url);

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');

our %Good = (iss => 'i', aud => 'a', sub => 'ada');
our $Token = jwt(\%Good, $Secret);

# Keys as a user makes them, and tokens signed by the same tool.
our $Keys = tempdir(CLEANUP => 1);
chmod 0755, $Keys;
for (['rs', 'RSA', '-pkeyopt rsa_keygen_bits:2048'], ['es', 'EC', '-pkeyopt ec_paramgen_curve:P-256'], ['ed', 'ED25519', '']) {
    my ($name, $algorithm, $options) = @$_;
    system("openssl genpkey -algorithm $algorithm $options -out $Keys/$name.key 2>/dev/null"
        . " && openssl pkey -in $Keys/$name.key -pubout -out $Keys/$name.pem") == 0 or die "openssl\n";
}

sub signed {
    my ($algorithm, $name) = @_;
    my $text = jwt(\%Good, '', {alg => $algorithm, kid => $name});
    $text =~ s/\.[^.]*\z//;
    spew("$Keys/text", $text);
    my $sign = $algorithm eq 'EdDSA' ? "pkeyutl -sign -rawin -inkey $Keys/$name.key -in" : "dgst -sha256 -sign $Keys/$name.key";
    my $signature = `openssl $sign $Keys/text`;
    # RFC 7518, 3.4: two numbers of 32 bytes each, where openssl writes ASN.1.
    if ($algorithm eq 'ES256') {
        my ($r, $s) = $signature =~ /\A\x30.\x02(.)/s ? unpack('x3 C/a x C/a', $signature) : die "openssl\n";
        $signature = join '', map { substr(("\0" x 32) . $_, -32) } $r, $s;
    }
    return "$text." . encode_base64url($signature);
}

sub spew {
    my ($path, $text) = @_;
    open my $out, '>:raw', $path or die "$path: $!\n";
    print $out $text;
    close $out or die "$path: $!\n";
}

# Of a token's parts: one replaced.
sub altered {
    my ($index, $part) = @_;
    my @parts = split /\./, $Token;
    $parts[$index] = $part;
    return join '.', @parts;
}

our %Bad = (
    'auth.signature'   => [altered(2, 'A' x 43), jwt(\%Good, "another $Secret")],
    'auth.algorithm'   => [altered(0, encode_base64url('{"alg":"none"}')), jwt(\%Good, $Secret, {alg => 'HS384'}), jwt(\%Good, $Secret, {alg => 'none'})],
    'auth.expired'     => [jwt({%Good, exp => time - 120}, $Secret)],
    'auth.not_yet'     => [jwt({%Good, nbf => time + 600}, $Secret)],
    'auth.claims'      => [jwt({%Good, iss => 'x'}, $Secret), jwt({%Good, aud => 'x'}, $Secret), jwt({%Good, exp => 'soon'}, $Secret), jwt({%Good, aud => undef}, $Secret)],
    # The last one is longer than any token may be.
    'auth.malformed'   => [altered(1, '***'), 'nonsense', 'a.b', "$Token.x", '', altered(2, ''),
        altered(0, encode_base64url('{"alg":"none"}')) =~ s/[^.]*\z//r, altered(1, 'A' x 20_000)],
    'auth.key_unknown' => [jwt(\%Good, $Secret, {kid => 'nobody'})],
);

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth:
  - name: people
    jwt: {issuer: i, audience: a, keys: [{kid: k, alg: HS256, secret: "$env://T_SECRET"}, {alg: HS256, secret: "$env://T_SECRET"}],
          source: [header, "query:token", "cookie:session"], claims: {headers: {X-User: sub, X-Team: org.team}}}
  - {name: maybe, optional: true, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}
  - {name: named, jwt: {issuer: i, audience: a, keys: [{kid: k, alg: HS256, secret: "$env://T_SECRET"}]}}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: named, paths: ["/private/auth.key_unknown/*"], upstream: u, auth: [named]}
  - {name: private, paths: ["/private/*", "/headers"], upstream: u, auth: [people]}
  - {name: open, paths: ["/open/*"], upstream: u, auth: [maybe], strip_prefix: true}
  - {name: free, paths: ["/free/*"], upstream: u, strip_prefix: true}
YAML
    $block->set_value(http_config => "log_format reason '\$request_uri reason=\$gateway_reason consumer=\$gateway_consumer';\n"
        . "access_log logs/access.log reason;\nlarge_client_header_buffers 4 32k;\n" . ($block->http_config // ''));
});

run_tests();

__DATA__

=== no token: 401 with a challenge, and nothing that helps
--- request
GET /private/1
--- error_code: 401
--- response_headers
Content-Type: application/problem+json
WWW-Authenticate: Bearer
! X-Backend
--- response_body_like
^\{"type":"about:blank","title":"Unauthorized","status":401,"detail":"Credentials are required\.","code":"auth\.missing","request_id":"[0-9a-f-]{36}"\}$
--- access_log
/private/1 reason=auth.missing consumer=-


=== every bad token gets the same answer; the log says why
--- request
GET /private/
--- after_request eval
sub {
    my %answers;
    for my $reason (sort keys %main::Bad) {
        my $number = 0;
        for my $token (@{$main::Bad{$reason}}) {
            my $path = "/private/$reason/" . $number++;
            my $answer = get($path, headers => "Authorization: Bearer $token");
            is($answer->{status}, 401, $path);
            $answer->{body} =~ s/"request_id":"[^"]*"//;
            $answers{"$answer->{headers}{'www-authenticate'} $answer->{body}"}++;
        }
    }
    is(scalar keys %answers, 1, 'one answer for all') or diag(CORE::join "\n", keys %answers);
    like((keys %answers)[0], qr/auth\.invalid/, 'which is auth.invalid');
    unlike((keys %answers)[0], qr/expired|signature|issuer|alg|kid/, 'and says no more');
    # nginx writes the line after the answer.
    my ($log, $until) = ('', time + 2);
    do { select undef, undef, undef, 0.05; $log = accesses() } until $log =~ m{^/private/auth\.signature/1 }m || time > $until;
    for my $reason (sort keys %main::Bad) {
        for my $number (0 .. $#{$main::Bad{$reason}}) {
            like($log, qr{^/private/\Q$reason\E/$number reason=\Q$reason\E consumer=-$}m, "$reason, $number");
        }
    }
}
--- error_code: 401
--- no_error_log
[alert]


=== two Authorization lines are refused (by nginx itself); so are other schemes and a token elsewhere
--- request eval
["GET /private/", "GET /private/", "GET /private/", "GET /private/", "GET /private/?Token=$::Token", "GET /free/?token=x"]
--- more_headers eval
["Authorization: Bearer $::Token\nAuthorization: Bearer $::Token", "Authorization: Basic YTpi",
 "Authorization: Bearer  $::Token x", "X-Authorization: Bearer $::Token", "", "Authorization: Bearer nonsense"]
--- error_code eval
[400, 401, 401, 401, 401, 200]


=== a good token: 200, from the header in any case, from the query, from a cookie
--- request eval
["GET /private/1", "GET /private/2", "GET /private/3?a=b&token=$::Token", "GET /private/4"]
--- more_headers eval
["Authorization: Bearer $::Token", "authorization: bearer $::Token", "", "Cookie: a=b; session=$::Token; c=d"]
--- error_code eval
[200, 200, 200, 200]
--- response_body_like eval
["one GET /private/1", "one GET /private/2", "one GET /private/3", "one GET /private/4"]
--- no_access_log
reason=auth


=== claims become headers, and the client's copies go in every spelling, on every route
--- http_config
underscores_in_headers on;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    underscores_in_headers on;
    location / { return 200 "user=$http_x_user team=$http_x_team other=$http_x_other\n"; }
}
--- request eval
["GET /private/1", "GET /free/1", "GET /open/1", "GET /open/1"]
--- more_headers eval
my $forged = "X-User: root\nx-user: root\nX_User: root\nX-TEAM: root\nx_team: root\nX_TEAM: root\nX-Other: kept";
["$forged\nAuthorization: Bearer " . jwt({%::Good, org => {team => 'blue'}}, $::Secret), $forged, $forged,
 "$forged\nAuthorization: Bearer $::Token"]
--- error_code eval
[200, 200, 200, 200]
--- response_body eval
["user=ada team=blue other=kept\n", "user= team= other=kept\n", "user= team= other=kept\n", "user=ada team= other=kept\n"]
--- access_log
/private/1 reason=- consumer=ada


=== a claim that is no header's value is not sent
--- request eval
["GET /headers", "GET /headers"]
--- more_headers eval
["Authorization: Bearer " . jwt({%::Good, sub => "ada\r\nX-Evil: 1"}, $::Secret),
 "Authorization: Bearer " . jwt({%::Good, sub => ['ada']}, $::Secret)]
--- error_code_like eval
['^(?:200|401)$', '^(?:200|401)$']
--- response_body_unlike eval
['Evil|user=ada', 'user=ada']
--- no_error_log
[alert]


=== optional: the anonymous pass, a bad token does not
--- request eval
["GET /open/", "GET /open/", "GET /open/headers"]
--- more_headers eval
["", "Authorization: Bearer nonsense", "Authorization: Bearer $::Token"]
--- error_code eval
[200, 401, 200]
--- response_body_like eval
['^one', 'auth\.invalid', 'user=ada$']


=== RS256, ES256 and EdDSA with openssl's keys; none answers for another
--- gateway eval
"version: 1
auth:
  - name: people
    jwt:
      issuer: i
      audience: a
      keys:
        - {kid: rs, alg: RS256, pem: '\$file://$::Keys/rs.pem'}
        - {kid: es, alg: ES256, pem: '\$file://$::Keys/es.pem'}
        - {kid: ed, alg: EdDSA, pem: '\$file://$::Keys/ed.pem'}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: private, paths: ['/*'], upstream: u, auth: [people]}]
"
--- request
GET /
--- after_request eval
sub {
    my $ask = sub { get('/', headers => "Authorization: Bearer $_[0]")->{status} };
    my %tokens = map { $_->[1] => main::signed(@$_) } ['RS256', 'rs'], ['ES256', 'es'], ['EdDSA', 'ed'];
    is($ask->($tokens{$_}), 200, "good $_") for sort keys %tokens;
    is($ask->($tokens{$_} =~ s/.\.\K(.)([^.]*)\z/($1 eq 'A' ? 'B' : 'A') . $2/er), 401, "altered $_") for sort keys %tokens;
    # The key decides the algorithm, never the header: the public key is no HMAC secret.
    my $pem = Test::Nginx::Util::read_log("$main::Keys/rs.pem", 0);
    is($ask->(jwt(\%main::Good, $pem, {kid => 'rs'})), 401, 'HS256 with the public key');
    is($ask->(jwt(\%main::Good, $pem, {kid => 'rs', alg => 'RS256'})), 401, 'an HMAC under RS256');
    is($ask->(jwt(\%main::Good, $pem, {kid => 'rs', alg => 'none'})), 401, 'none');
    is($ask->(main::signed('RS256', 'rs') =~ s/^[^.]*/MIME::Base64::encode_base64url('{"alg":"RS256","kid":"es"}')/er), 401,
        'the kid of another key');
    is($_->{status}, 200, 'on each worker') for each_worker('/', headers => "Authorization: Bearer $tokens{es}");
}
--- error_code: 401


=== a key that an edit takes away is worth nothing at once, verified before or not; a reload keeps that
--- request eval
["GET /private/1", "GET /private/2"]
--- more_headers eval
["Authorization: Bearer $::Token", "Authorization: Bearer $::Token"]
--- after_request eval
[
    sub {
        my $other = 'another secret that is longer than 32 bytes';
        main::spew("$main::Keys/other", "$other\n");
        is($_->{status}, 200, 'known to each worker') for each_worker('/private/', headers => "Authorization: Bearer $main::Token");
        edit(qr/\$env:/, "\$file://$main::Keys/other#");
        like(errors(), qr/\[error\].*gateway\.yaml:4: auth\[0\]\.jwt\.keys\[0\]\.secret: cannot read `\Q$main::Keys\E/, 'no such secret');
        is($_->{status}, 200, 'and changes nothing') for each_worker('/private/', headers => "Authorization: Bearer $main::Token");
        edit(qr/"\$(?:file:[^"]*#|env:)[^"]*"/, "\"\$file://$main::Keys/other\"", sub { 1 }) for 1 .. 2;
        ok(until_true(1, sub { get('/private/', headers => "Authorization: Bearer $main::Token")->{status} == 401 }), 'refused');
        is($_->{status}, 401, 'by each worker') for each_worker('/private/', headers => "Authorization: Bearer $main::Token");
        my $new = jwt(\%main::Good, $other);
        is($_->{status}, 200, 'the new key is good on each') for each_worker('/private/', headers => "Authorization: Bearer $new");
        ok(reload(), 'reload');
        is($_->{status}, 401, 'after a reload') for each_worker('/private/', headers => "Authorization: Bearer $main::Token");
        is($_->{status}, 200, 'after a reload') for each_worker('/private/', headers => "Authorization: Bearer $new");
    },
]
--- error_code eval
[200, 401]
--- no_error_log
[alert]


=== misconfigured: no key, a short secret, a key of another kind
--- gateway eval
"version: 1
auth:
  - {name: a, jwt: {issuer: i, audience: a}}
  - {name: b, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: short}]}}
  - {name: c, jwt: {issuer: i, audience: a, keys: [{alg: ES256, pem: '\$file://$::Keys/rs.pem'}]}}
  - {name: d, jwt: {issuer: i, audience: a, keys: [{alg: none, secret: '\$env://T_SECRET'}]}}
  - {name: e, jwt: {issuer: i, audience: a, keys: [{alg: RS256, pem: '\$file://$::Keys/rs.key'}]}}
routes: [{name: r, paths: ['/*'], auth: [f]}]
"
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: auth\[0\]\.jwt: needs `keys`/, qr/gateway\.yaml:4: auth\[1\]\.jwt\.keys\[0\]\.secret: .*32/,
 qr/gateway\.yaml:5: auth\[2\]\.jwt\.keys\[0\]\.pem: /, qr/gateway\.yaml:6: auth\[3\]\.jwt\.keys\[0\]\.alg: must be/,
 qr/gateway\.yaml:7: auth\[4\]\.jwt\.keys\[0\]\.pem: .*public/, qr/gateway\.yaml:8: routes\[0\]\.auth\[0\]: .*`f`/]
--- suppress_stderr
