# Signed requests (RFC 9421): what is let in, once; what is not; and bodies that are not the ones that were signed.

use lib 't';
use Gateway 'no_plan';

use Digest::SHA qw(hmac_sha256 sha256 sha512 sha256_hex);
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64);

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
$ENV{TEST_NGINX_BACKEND} = backend();

our $Keys = tempdir(CLEANUP => 1);
chmod 0755, $Keys;
system("openssl genpkey -algorithm ED25519 -out $Keys/ed.key 2>/dev/null && openssl pkey -in $Keys/ed.key -pubout -out $Keys/ed.pem") == 0
    or die "openssl\n";

our $Nonce = 0;

sub digest { 'sha-256=:' . encode_base64(sha256($_[0]), '') . ':' }

sub spew {
    my ($path, $text) = @_;
    open my $out, '>:raw', $path or die "$path: $!\n";
    print $out $text;
    close $out or die "$path: $!\n";
}

# The three header lines of a signed request, each part of which can be another than it should be.
sub signed {
    my ($path, %with) = @_;
    my $created = $with{created} // time;
    $created = int $created;
    my $nonce   = $with{nonce} // ++$Nonce . ".$$";
    my $digest  = $with{digest} // digest($with{body} // '');
    my $key     = $with{key} // 'hmac';
    my @lines = (['@method', $with{method} // 'GET'], ['@target-uri', "http://localhost$path"], ['content-digest', $digest]);
    @lines = grep { $_->[0] ne $with{without} } @lines if $with{without};
    my $covered = '(' . join(' ', map { "\"$_->[0]\"" } @lines) . ");created=$created;nonce=\"$nonce\";keyid=\"$key\"";
    my $base = join('', map { "\"$_->[0]\": $_->[1]\n" } @lines) . "\"\@signature-params\": $covered";
    my $signature;
    if ($key eq 'ed') {
        spew("$Keys/base", $base);
        $signature = `openssl pkeyutl -sign -rawin -inkey $Keys/ed.key -in $Keys/base`;
    }
    else {
        $signature = hmac_sha256($base, $with{secret} // $Secret);
    }
    return "Content-Digest: $digest\r\nSignature-Input: sig=$covered\r\nSignature: sig=:" . encode_base64($signature, '') . ":";
}

# A request as it is signed, and what came of it: the status, or the code of the refusal.
sub verdict {
    my ($path, %with) = @_;
    my $answer = get($with{sent} // $path, method => $with{sent_method} // $with{method} // 'GET',
        body => $with{sent_body} // $with{body} // '', headers => $with{headers} // signed($path, %with));
    return $1 if $answer->{body} =~ /"code":"([^"]*)"/;
    return $answer->{status};
}

# The reasons in the log for a path, when `$count` lines are there.
sub reasons {
    my ($path, $count) = @_;
    my @found;
    until_true(2, sub { @found = accesses() =~ /^\Q$path\E reason=(\S+) .*$/mg; @found >= $count });
    return "@found";
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth:
  - name: signed
    signature:
      keys:
        - {keyid: hmac, alg: hmac-sha256, secret: "\$env://T_SECRET", consumer: acme}
        - {keyid: ed, alg: ed25519, pem: "\$file://$Keys/ed.pem", consumer: shop}
consumers: [{name: acme}, {name: shop}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_BACKEND}]}]
routes:
  - {name: signed, paths: ["/s/*", "/echo"], upstream: u, auth: [signed]}
  - {name: fixed, paths: ["/fixed/*"], auth: [signed], reply: {body: "fixed\\n"}}
YAML
    $block->set_value(http_config => "log_format reason '\$request_uri reason=\$gateway_reason consumer=\$gateway_consumer upstream=\$upstream_addr';\n"
        . "access_log logs/access.log reason;\n" . ($block->http_config // ''));
    $block->set_value(config => <<'CONF') if !defined $block->config;
        add_header X-Worker $pid always;
        location / { gateway_pass gateway; }
        location /s/unbuffered { gateway_pass gateway; proxy_request_buffering off; }
        location /s/large { gateway_pass gateway; client_max_body_size 8m; }
        location /s/file { gateway_pass gateway; client_body_in_file_only clean; }
CONF
});

run_tests();

__DATA__

=== not signed: 401 with a challenge
--- request
GET /s/0
--- error_code: 401
--- response_headers
Content-Type: application/problem+json
WWW-Authenticate: Signature
--- response_body_like
"code":"auth\.missing","request_id":"[^"]*"\}$


=== good ones with both kinds of keys, once each, whichever worker sees them again
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    my $headers = main::signed('/s/a?b=c%20d');
    my $answer = get('/s/a?b=c%20d', headers => $headers);
    is($answer->{status}, 200, 'HMAC');
    like($answer->{body}, qr{"path": ?"/s/a\?b=c%20d"}, 'at the backend');
    for my $again (each_worker('/s/a?b=c%20d', headers => $headers)) {
        is($again->{status}, 401, 'again');
        like($again->{body}, qr/"code":"auth\.invalid"/, 'and no word of why');
    }
    is(main::verdict('/s/ed', key => 'ed'), 200, 'Ed25519');
    $headers = main::signed('/s/ed', key => 'ed');
    is(main::verdict('/s/ed', headers => $headers), 200, 'Ed25519, another nonce');
    is(main::verdict('/s/ed', headers => $headers), 'auth.invalid', 'Ed25519, again');
    is(main::verdict('/fixed/a'), 200, 'a route that answers by itself');
    is(main::verdict('/fixed/a', method => 'PROPFIND'), 200, 'a method that few know');
    is(main::verdict('/fixed/a', method => 'PROPFIND', sent_method => 'PROPPATCH'), 'auth.invalid', 'and another');
    # The host that is routed by is the one that is signed.
    for (['localhost', 200], ['elsewhere', 401]) {
        my ($host, $expected) = @$_;
        my $answer = exchange("GET http://localhost/s/absolute HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n" . main::signed('/s/absolute') . "\r\n\r\n");
        like($answer, qr{^HTTP/1\.1 $expected }, "absolute target, Host: $host");
        $answer = exchange("GET http://elsewhere/s/absolute HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n" . main::signed('/s/absolute') . "\r\n\r\n");
        like($answer, qr{^HTTP/1\.1 401 }, "another absolute target, Host: $host");
    }
    is(main::reasons('/s/ed', 3), '- - auth.replay', 'the log says why');
    like(accesses(), qr{^/s/ed reason=- consumer=shop }m, 'and who it was');
    # Many at once: one of them.
    my $seen = burst(40, '/s/burst', headers => main::signed('/s/burst'), connections => 8);
    is_deeply($seen, {200 => 1, 401 => 39}, 'one of forty');
    # Nonces live in the zone.
    $headers = main::signed('/s/kept');
    is(main::verdict('/s/kept', headers => $headers), 200, 'before a reload');
    ok(reload(), 'reload');
    is(main::verdict('/s/kept', headers => $headers), 'auth.invalid', 'and after it');
}
--- no_error_log
[alert]


=== what differs from what was signed is refused, and the log says why
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    my $now = time;
    for (
        ['auth.expired', 'stale', created => $now - 400],
        ['auth.not_yet', 'future', created => $now + 400],
        ['-', 'a little in the future', created => $now + 15],
        ['auth.signature', 'another path', sent => '/s/x2'],
        ['auth.signature', 'another query', sent => '/s/x?a=c'],
        ['auth.signature', 'another spelling', sent => '/s/%78?a=b'],
        ['auth.signature', 'another method', sent_method => 'DELETE'],
        ['auth.signature', 'another secret', secret => 'b' x 40],
        ['auth.claims', 'no method covered', without => '@method'],
        ['auth.claims', 'no target covered', without => '@target-uri'],
        ['auth.claims', 'no digest covered', without => 'content-digest'],
        ['auth.key_unknown', 'an unknown key', key => 'nobody'],
        ['auth.malformed', 'an empty nonce', nonce => ''],
        ['auth.malformed', 'a long nonce', nonce => 'x' x 129],
        ['auth.digest', 'a digest that nobody trusts', digest => 'md5=:1B2M2Y8AsgTpgAmY7PhCfg==:'],
        ['auth.malformed', 'no signature', headers => 'Signature-Input: sig=()'],
        ['auth.malformed', 'nonsense', headers => "Signature-Input: sig\r\nSignature: x"],
    ) {
        my ($reason, $what, @with) = @$_;
        my %with = @with;
        my $path = '/s/x?a=b';
        my $before = () = accesses() =~ /^\S+ reason=/mg;
        is(main::verdict($path, %with), $reason eq '-' ? 200 : 'auth.invalid', $what);
        my @found;
        until_true(2, sub { @found = accesses() =~ /^\S+ reason=(\S+)/mg; @found > $before });
        is($found[-1], $reason, "$what: reason");
    }
}
--- no_error_log
[alert]


=== bodies: in memory, in files, unbuffered, chunked; only the right one reaches the backend
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    my $big = CORE::join '', map { chr(33 + $_ % 90) } 1 .. 300_000;
    for my $path ('/s/buffered', '/s/unbuffered', '/s/file') {
        for my $body ('x', 'hello', $big) {
            my $size = length $body;
            my $headers = main::signed($path, method => 'POST', body => $body);
            my $answer = get($path, method => 'POST', body => $body, headers => $headers);
            is($answer->{status}, 200, "$path, $size bytes");
            my $sum = main::sha256_hex($body);
            like($answer->{body}, qr/$sum/, 'came whole');
            is(main::verdict($path, method => 'POST', headers => $headers, sent_body => $body), 'auth.invalid', 'again');
            for my $other (substr($body, 0, -1) . '!', "$body!", substr($body, 0, -1)) {
                $answer = get($path, method => 'POST', body => $other, headers => main::signed($path, method => 'POST', body => $body));
                is($answer->{status}, 400, "$path, not the $size bytes");
                is($answer->{headers}{'content-type'}, 'application/problem+json', 'a problem');
                like($answer->{body}, qr/"code":"body\.digest"/, 'which one');
            }
        }
        is(main::verdict($path, method => 'POST', body => '', digest => main::digest('x')), 'body.digest', "$path, no body");
        is(main::verdict($path, method => 'POST', body => ''), 200, "$path, an empty one");
        is(main::verdict($path, method => 'POST', body => 'ab', digest => 'sha-512=:' . main::encode_base64(main::sha512('ab'), '') . ':'), 200, 'SHA-512');
        is(main::verdict($path, method => 'POST', body => 'ab', digest => 'sha-512=:' . main::encode_base64(main::sha512('ac'), '') . ':'), 'body.digest', 'another SHA-512');

        # In chunks that come one after another.
        for (['200', $big], ['400', substr($big, 1)]) {
            my ($status, $sent) = @$_;
            my $chunks = CORE::join '', map { sprintf("%x\r\n%s\r\n", length, $_) } unpack '(a7777)*', $sent;
            my $answer = exchange("POST $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
                . main::signed($path, method => 'POST', body => $big) . "\r\n\r\n${chunks}0\r\n\r\n");
            like($answer, qr{^HTTP/1\.1 $status }, "$path in chunks: $status");
        }
    }
    # A client that waits to be asked for its body.
    my $answer = exchange("POST /s/buffered HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        . main::signed('/s/buffered', method => 'POST', body => 'ab') . "\r\n\r\nab");
    like($answer, qr{^HTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 }, 'asked for');
    is(main::verdict('/fixed/b', method => 'POST', body => 'a', sent_body => 'b'), 'body.digest', 'a route that answers by itself');

    my $log = accesses();
    unlike($log, qr/reason=body\.digest .*upstream=(?!-$)/m, 'nothing went to the backend');
    like($log, qr/reason=body\.digest consumer=acme upstream=-$/m, 'and the log says whose it was');
    # The connection of a refused body is good for the next request.
    my $next = exchange("POST /s/buffered HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        . main::signed('/s/buffered', method => 'POST', body => 'a') . "\r\n\r\nb"
        . "GET /s/next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" . main::signed('/s/next') . "\r\n\r\n");
    like($next, qr{^HTTP/1\.1 400 .*HTTP/1\.1 200 }s, 'pipelined');
}
--- no_error_log
[alert]
[crit]


=== a body that is too large, and a client that goes away
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    my $body = 'x' x (9 << 20);
    my $answer = exchange("POST /s/large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n"
        . main::signed('/s/large', method => 'POST', body => $body) . "\r\n\r\n");
    like($answer, qr{^HTTP/1\.1 413 }, 'too large');
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_SERVER_PORT});
    print $socket "POST /s/gone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n" . main::signed('/s/gone', method => 'POST', body => 'x' x 100) . "\r\n\r\nxxx";
    $socket->flush;
    sleep 0.1;
    close $socket;
    is(main::reasons('/s/gone', 1), '-', 'gone');
    is(main::verdict('/s/after'), 200, 'and the worker is well');
}
--- no_error_log
[alert]


=== after an internal redirect it is still the same request
--- config
        location / { gateway_pass gateway; }
        location /s/first { try_files /none /s/second; }
        location /s/second { gateway_pass gateway; }
        location /s/outer { gateway on; error_page 404 = /s/second; return 404; }
        location /s/redirected { gateway on; try_files /none @other; }
        location @other { gateway_pass gateway; }
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    is(main::verdict('/s/first'), 200, 'try_files to another location');
    my $headers = main::signed('/s/redirected', method => 'POST', body => 'abc');
    my $answer = get('/s/redirected', method => 'POST', body => 'abc', headers => $headers);
    is($answer->{status}, 200, 'decided on before it was redirected');
    my $sum = main::sha256_hex('abc');
    like($answer->{body}, qr/$sum/, 'with its body');
    is(get('/s/redirected', method => 'POST', body => 'abc', headers => $headers)->{status}, 401, 'again');
}
--- no_error_log
[alert]


=== what gatewayctl signs curl can send, once
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 http2;
    location / { gateway_pass gateway; }
    location /s/unbuffered { gateway_pass gateway; proxy_request_buffering off; }
}
--- request
GET /s/0
--- error_code: 401
--- after_request eval
sub {
    my $tool = ($ENV{GATEWAY_MODULE} // '') =~ s{[^/]*\z}{gatewayctl}r;
    SKIP: {
        Test::More::skip('no gatewayctl beside the module, or no curl', 1) if !-x $tool || !-x '/usr/bin/curl';
        my $url = "http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/s/ctl?a=%20b";
        main::spew("$main::Keys/secret", "$main::Secret\n");
        for (['hmac', 'hmac-sha256', 'secret'], ['ed', 'ed25519', 'ed.key']) {
            my ($keyid, $alg, $file) = @$_;
            my $command = `$tool sign POST '$url' --keyid $keyid --alg $alg --key-file $main::Keys/$file --data "it's" -H 'X-A: b'`;
            my @found = map { CORE::chomp(my $line = $command); `$line -s -o /dev/null -w '%{http_code}'` } 1 .. 2;
            is("@found", '200 401', "$alg by curl");
        }
        Test::More::skip('no HTTP/2 in curl', 1) if `curl --version` !~ /HTTP2/;
        main::spew("$main::Keys/body", 'x' x 300_000);
        main::spew("$main::Keys/other", 'x' x 299_999 . 'y');
        for my $path ('/s/http2', '/s/unbuffered') {
            $url = "http://localhost:" . Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_2', 'port', $Test::Nginx::Util::RandPorts) . $path;
            for ([200, 'body'], [400, 'other']) {
                my ($expected, $sent) = @$_;
                my $command = `$tool sign POST '$url' --keyid hmac --alg hmac-sha256 --key-file $main::Keys/secret --data \@$main::Keys/body`;
                CORE::chomp $command;
                $command =~ s{Keys/body|/body'}{/$sent'};
                is(`$command --http2-prior-knowledge -s -o /dev/null -w '%{http_code}'`, $expected, "HTTP/2, $path, $sent");
            }
        }
    }
}
--- no_error_log
[alert]


=== misconfigured
--- gateway
version: 1
auth:
  - {name: a, signature: {keys: []}}
  - {name: b, signature: {keys: [{keyid: k, alg: hmac-sha256, secret: short}]}}
  - {name: c, signature: {keys: [{keyid: k, alg: rsa-v1_5-sha256, secret: "$env://T_SECRET"}]}}
  - {name: d, signature: {keys: [{keyid: k, alg: ed25519, secret: "$env://T_SECRET"}]}}
  - {name: e, signature: {keys: [{keyid: k, alg: hmac-sha256, secret: "$env://T_SECRET"}], components: ["@status"]}}
routes: [{name: r, paths: ["/*"], auth: [a]}]
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: auth\[0\]\.signature\.keys: /, qr/gateway\.yaml:4: auth\[1\]\.signature\.keys\[0\]\.secret: .*32/,
 qr/gateway\.yaml:5: auth\[2\]\.signature\.keys\[0\]\.alg: must be/, qr/gateway\.yaml:6: auth\[3\]\.signature\.keys\[0\]\.secret: /,
 qr/gateway\.yaml:7: auth\[4\]\.signature\.components\[0\]: .*must be one of/]
--- suppress_stderr
