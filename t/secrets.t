# Secrets get nowhere: no reply, log, metric, message or core dump of the zone shows one, whatever is sent or written.
#
# Each secret is a random word of its own. Whatever can be read is searched for pieces of each of them, as they are and in
# base64, base64url, hexadecimal and percent-encoding.

use lib 't';
use Gateway 'no_plan';

use Digest::SHA qw(hmac_sha256 sha256_hex);
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64 encode_base64url);

our $Folder = tempdir(CLEANUP => 1);
chmod 0755, $Folder;
# Beside the module, or where `cargo test` built it.
our ($Tool) = grep { -x } map { $Gateway::Module =~ s{[^/]*\z}{$_}r } 'gatewayctl', 'debug/gatewayctl';

# What is configured: nobody sends it, so not even a log of nginx at its most talkative may hold it.
our %Stored;
# What clients send: nginx itself writes headers and request lines into its debug log.
our %Sent;

sub word {
    my @letters = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);
    return 'cAnArY' . CORE::join '', map { $letters[rand @letters] } 1 .. 42;
}
sub stored { my ($name, $word) = @_; return $Stored{$name} = $word // word() }
sub sent   { my ($name, $word) = @_; return $Sent{$name}   = $word // word() }

sub spew {
    my ($path, $text) = @_;
    open my $out, '>:raw', "$path.new" or die "$path: $!\n";
    print $out $text;
    close $out or die "$path: $!\n";
    rename "$path.new", $path or die "$path: $!\n";
}

# The configured ones: where they come from is what differs.
our $HsEnv   = $ENV{T_HS}  = stored('HMAC secret, environment');
our $HsFile  = stored('HMAC secret, file');
our $HsClear = stored('HMAC secret, in clear');
our $SigKey  = $ENV{T_SIG} = stored('signature secret');
our $JwkKey  = stored('HMAC secret, in a JWK');
our $KeyEnv  = $ENV{T_KEY} = sent('API key, environment');
our $KeyHash = sent('API key, hashed');
our $KeyBody = sent('API key, in clear');
our $Password = sent('password');
stored("SHA-256 of: $_", sha256_hex($Sent{$_})) for 'API key, environment', 'API key, hashed', 'API key, in clear';
env_to_nginx('T_HS', 'T_SIG', 'T_KEY');
spew("$Folder/hs", "$HsFile\n");
our $Hash = crypt($Password, '$2y$04$abcdefghijklmnopqrstuu');
stored('hash of a password', substr $Hash, 29);
spew("$Folder/htpasswd", "ann:$Hash\n");
our $Listed = sent('revoked jti');
our $Hidden = stored('a jti that nobody has');
spew("$Folder/revoked", "jti $Listed\njti $Hidden\n");

# Tokens: the signature is what makes one worth stealing, the claims are the caller's own affair.
sub token {
    my ($name, $secret, %claims) = @_;
    my $token = jwt({iss => 'i', aud => 'a', sub => 'ada', jti => word(), %claims}, $secret);
    my (undef, $payload, $signature) = split /\./, $token;
    sent("$name, claims", $payload);
    sent("$name, signature", $signature);
    return $token;
}
our $Token   = token('a token', $HsEnv);
our $Filed   = token('a token by the file', $HsFile);
our $Session = token('a token in a cookie', $HsClear);
our $Query   = token('a token in a query', $HsEnv);
our $Expired = token('an expired token', $HsEnv, exp => 1_000_000_000);
our $Forged  = token('a forged token', word());
our $Revoked = token('a revoked token', $HsEnv, jti => $Listed);
our $Wrong   = sent('what is wrong');

our $Nonce = 0;
sub signed {
    my ($path, $secret, $what) = @_;
    my $digest = 'sha-256=:' . encode_base64(Digest::SHA::sha256(''), '') . ':';
    my $params = '("@method" "@target-uri" "content-digest");created=' . int(time) . ";nonce=\"@{[++$Nonce]}.$$\";keyid=\"k\"";
    my $base = "\"\@method\": GET\n\"\@target-uri\": http://localhost$path\n\"content-digest\": $digest\n\"\@signature-params\": $params";
    my $signature = sent("signature, $what", hmac_sha256($base, $secret));
    return "Content-Digest: $digest\r\nSignature-Input: s=$params\r\nSignature: s=:" . encode_base64($signature, '') . ':';
}
sub basic { 'Authorization: Basic ' . encode_base64("$_[0]:$_[1]", '') }

# Every spelling of a word that is searched for, in pieces: half of a secret is too much, too.
sub pieces {
    my ($word) = @_;
    my @spelt = ($word);
    for my $pad (0 .. 2) {
        my $text = encode_base64('x' x $pad . $word, '');
        # What does not depend on neighbours.
        $text = substr $text, $pad ? 4 : 0, 4 * int((length($word) + $pad) / 3) - ($pad ? 4 : 0);
        push @spelt, $text, $text =~ tr{+/}{-_}r;
    }
    my $hex = unpack 'H*', $word;
    push @spelt, $hex, uc $hex, map { $_ =~ s/(..)/%$1/gr } $hex, uc $hex;
    my %pieces;
    for my $text (@spelt) {
        for (my $at = 0; $at + 12 <= length $text; $at += 6) {
            # Words begin alike.
            my $piece = substr $text, $at, 12;
            $pieces{$piece} = 1 if $piece !~ /\AcAnArY/;
        }
    }
    return keys %pieces;
}
our %Pieces;

# What `$text` shows of `%$secrets`.
sub shown {
    my ($text, $secrets) = @_;
    my @shown;
    for my $name (sort keys %$secrets) {
        my $pieces = $Pieces{$secrets->{$name}} //= [pieces($secrets->{$name})];
        push @shown, $name if grep { index($text, $_) >= 0 } @$pieces;
    }
    return @shown;
}

sub clean {
    my ($what, $text, $secrets) = @_;
    $secrets //= {%Stored, %Sent};
    my $shown = CORE::join ', ', shown($text, $secrets);
    Test::More::cmp_ok(length $text, '>', 0, "$what: there is something to look at");
    Test::More::is($shown, '', "$what shows no secret")
        or Test::More::diag(CORE::join "\n", map { substr $_, 0, 300 } (grep { shown($_, $secrets) } split /\n/, $text)[0 .. 4]);
}

# Everything that clients send: name, status, path, headers. Signatures are made when they are sent: a zone refuses those
# that are older than itself.
our $Once;
our @Cases = (
    ['no token', 401, '/jwt/', ''],
    ['token', 200, '/jwt/', "Authorization: Bearer $Token"],
    ['token again', 200, '/jwt/', "Authorization: Bearer $Token"],
    ['token by the file', 200, '/file/', "Authorization: Bearer $Filed"],
    ['token in a cookie', 200, '/cookie/', "Cookie: a=b; session=$Session"],
    ['token in a query', 200, "/query/?token=$Query", ''],
    ['expired', 401, '/jwt/', "Authorization: Bearer $Expired"],
    ['forged', 401, '/jwt/', "Authorization: Bearer $Forged"],
    ['forged in a cookie', 401, '/cookie/', "Cookie: session=$Forged"],
    ['forged in a query', 401, "/query/?token=$Forged", ''],
    ['revoked', 401, '/jwt/', "Authorization: Bearer $Revoked"],
    ['malformed token', 401, '/jwt/', "Authorization: Bearer $Token.$Wrong"],
    ['broken token', 401, '/jwt/', "Authorization: Bearer $Wrong"],
    ['two tokens', 400, '/jwt/', "Authorization: Bearer $Token\r\nAuthorization: Bearer $Token"],
    ['long token', 401, '/jwt/', 'Authorization: Bearer ' . $Token x 30],
    ['no key', 401, '/key/', ''],
    ['key', 200, '/key/', "X-API-Key: $KeyEnv"],
    ['hashed key', 200, '/key/', "X-API-Key: $KeyHash"],
    ['key in clear', 200, '/key/', "X-API-Key: $KeyBody"],
    ['key in a query', 200, "/key/?key=$KeyEnv", ''],
    ['key in a cookie', 200, '/key/', "Cookie: k=$KeyEnv"],
    ['wrong key', 401, '/key/', "X-API-Key: $Wrong"],
    ['wrong key in a query', 401, "/key/?key=$Wrong", ''],
    ['malformed key', 401, '/key/', "X-API-Key: $KeyEnv and $Wrong"],
    ['two keys', 401, "/key/?key=$KeyEnv&key=$KeyHash", ''],
    ['no password', 401, '/basic/', ''],
    ['password', 200, '/basic/', basic('ann', $Password)],
    ['password again', 200, '/basic/', basic('ann', $Password)],
    ['wrong password', 401, '/basic/', basic('ann', $Wrong)],
    ['unknown user', 401, '/basic/', basic('bob', $Password)],
    ['malformed password', 401, '/basic/', 'Authorization: Basic ' . encode_base64($Password, '')],
    ['password in clear', 401, '/basic/', "Authorization: Basic ann:$Password"],
    ['no signature', 401, '/sig/', ''],
    ['signature', 200, '/sig/', sub { $Once = signed('/sig/', $SigKey, 'good') }],
    ['replayed signature', 401, '/sig/', sub { $Once }],
    ['wrong signature', 401, '/sig/', sub { signed('/sig/', $Wrong, 'wrong') }],
    ['malformed signature', 401, '/sig/', sub { signed('/sig/', $SigKey, 'malformed') =~ s/nonce=/nonce/r }],
    ['no certificate', 401, '/mtls/', ''],
    ['no permission', 403, '/may/', "X-API-Key: $KeyEnv"],
    ['too many', 429, '/few/', "X-API-Key: $KeyEnv"],
    ['no route', 404, '/none', "Authorization: Bearer $Token\r\nX-API-Key: $KeyEnv"],
);

our $Document = qq(version: 1
auth:
  - name: people
    jwt:
      issuer: i
      audience: a
      keys:
        - {alg: HS256, secret: "\$env://T_HS"}
        - {kid: j, jwk: {kty: oct, alg: HS256, k: "@{[encode_base64url($JwkKey)]}"}}
      source: [header]
      revocation: {file: "$Folder/revoked"}
  - {name: filed, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "\$file://$Folder/hs"}]}}
  - {name: session, jwt: {issuer: i, audience: a, source: ["cookie:session"], keys: [{alg: HS256, secret: "$HsClear"}]}}
  - {name: query, jwt: {issuer: i, audience: a, source: ["query:token"], keys: [{alg: HS256, secret: "\$env://T_HS"}]}}
  - {name: keys, api_key: {header: X-API-Key, query: key, cookie: k}}
  - {name: logins, basic: {file: "$Folder/htpasswd"}}
  - {name: signed, signature: {keys: [{keyid: k, alg: hmac-sha256, secret: "\$env://T_SIG", consumer: acme}]}}
  - {name: devices, mtls: {consumers: [{subject: "CN=x", consumer: acme}]}}
consumers: [{name: acme, api_key: ["\$env://T_KEY", "sha256:@{[sha256_hex($KeyHash)]}", "$KeyBody"]}]
limiters: [{name: few, key: [consumer], rate: 1/h, burst: 1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: jwt, paths: ["/jwt/*"], upstream: u, auth: [people]}
  - {name: file, paths: ["/file/*"], upstream: u, auth: [filed]}
  - {name: cookie, paths: ["/cookie/*"], upstream: u, auth: [session]}
  - {name: query, paths: ["/query/*"], upstream: u, auth: [query]}
  - {name: key, paths: ["/key/*"], upstream: u, auth: [keys]}
  - {name: may, paths: ["/may/*"], upstream: u, auth: [keys], permissions: {any: ["a:b"]}}
  - {name: few, paths: ["/few/*"], upstream: u, auth: [keys], limits: [few]}
  - {name: basic, paths: ["/basic/*"], upstream: u, auth: [logins]}
  - {name: sig, paths: ["/sig/*"], upstream: u, auth: [signed]}
  - {name: mtls, paths: ["/mtls/*"], upstream: u, auth: [devices]}
);

# Slips of those who write documents: what is replaced, and by what. `$Slip` is a secret in the wrong place or form.
our $Slip  = stored('a slip');
our $Short = stored('a short one', substr word(), 8, 20);
spew("$Folder/large", $Slip x 30_000);
spew("$Folder/binary", "\xff\xfe$Slip");
spew("$Folder/passwords", "ann:$Slip\n");
spew("$Folder/twice", "ann:$Hash\nann:$Hash\n");
spew("$Folder/list", "jti $Hidden\n$Slip\n");
spew("$Folder/dates", "sub $Hidden before $Slip\n");
system("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $Folder/private.pem 2>/dev/null") == 0 or die "openssl\n";
our ($Private) = do { local $/; open my $in, '<', "$Folder/private.pem" or die; <$in> } =~ /-\n(\S{64})/;
stored('a private key', substr $Private, 10);
our $Env = 'secret: "$env://T_HS"';
our @Slips = (
    ['a short secret', $Env, "secret: $Short"],
    ['an empty secret', $Env, 'secret: ""'],
    ['an unknown variable', $Env, 'secret: "$env://NOBODY_SETS_THIS"'],
    ['a slip in a reference', $Env, qq(secret: "\$env:$Slip")],
    ['a list', $Env, "secret: [$Slip]"],
    ['an object', $Env, "secret: {value: $Slip}"],
    ['no such file', $Env, qq(secret: "\$file://$Folder/none")],
    ['a folder', $Env, qq(secret: "\$file://$Folder")],
    ['a large file', $Env, qq(secret: "\$file://$Folder/large")],
    ['a PEM that is none', $Env, "pem: $Slip"],
    ['a private key', "alg: HS256, $Env", qq(pem: "\$file://$Folder/private.pem")],
    ['a JWK that is none', $Env, qq(jwk: "{$Slip}")],
    ['a JWK with another type', $Env, "jwk: {kty: oct, k: [$Slip]}"],
    ['a JWK with a bad k', $Env, qq(jwk: {kty: oct, alg: HS256, k: "$Slip!"})],
    ['two forms', $Env, qq($Env, pem: $Slip)],
    ['a field twice', $Env, qq($Env, secret: $Slip)],
    ['YAML that is none', $Env, qq(secret: "$Slip)],
    ['YAML that is none, otherwise', $Env, qq(secret: \@$Slip]})],
    ['a binary file as PEM', $Env, qq(pem: "\$file://$Folder/binary")],
    ['a password in clear', "$Folder/htpasswd", "$Folder/passwords"],
    ['a user twice', "$Folder/htpasswd", "$Folder/twice"],
    ['users with a password', qq(basic: {file: "$Folder/htpasswd"}), "basic: {users: {ann: $Slip}}"],
    ['half a hash', 'sha256:', "sha256:$Slip"],
    ['a short key', '"$env://T_KEY"', substr $Short, 0, 15],
    ['a key as an object', '"$env://T_KEY"', "{key: $Slip}"],
    ['a key with a blank', '"$env://T_KEY"', qq("$Slip $Slip")],
    ['a short signature secret', '"$env://T_SIG"', $Short],
    ['a list that is none', "$Folder/revoked", "$Folder/list"],
    ['a list with a bad time', "$Folder/revoked", "$Folder/dates"],
);

# The records of an error log, some of which have several lines, less what nginx itself tells of a request there: it puts
# the request line beside what it complains of, shows the header that came twice, and debugs whole requests.
sub records {
    my ($log) = @_;
    my @records = split m{^(?=\d{4}/\d\d/\d\d )}m, $log;
    @records = grep { !/ \[debug\] / || /gateway: / } grep { !/\[info\] .* client sent duplicate header line: / } @records;
    return map { s/, (?:request|upstream): "[^"]*"//gr } @records;
}

sub whole { my ($path) = @_; return Gateway::slurp(Test::Nginx::Socket::server_root() . "/$path") }
sub lines { my ($text, $pattern) = @_; return scalar(() = $text =~ /$pattern/g) }

# `nginx -t` on what is there now: what it says.
sub tested {
    my $root = Test::Nginx::Socket::server_root();
    return scalar `$ENV{TEST_NGINX_BINARY} -t -e stderr -p $root/ -c $root/conf/nginx.conf 2>&1`;
}

# The program beside the module.
sub tool { my $words = CORE::join ' ', map { "'" . s/'/'\\''/gr . "'" } @_; return scalar `$Tool $words 2>&1` }

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => $Document) if !defined $block->gateway;
    $block->set_value(main_config => "error_log logs/debug.log debug;\n" . ($block->main_config // ''));
    $block->set_value(http_config => <<'CONF' . ($block->http_config // ''));
# Everything of ours; nothing of the request line, which is the client's and the operator's.
log_format ours '$uri $status route=$gateway_route upstream=$gateway_upstream peer=$gateway_peer host=$gateway_host '
    'connection=$gateway_connection consumer=$gateway_consumer decision=$gateway_decision reason=$gateway_reason '
    'limit=$gateway_limit_status breaker=$gateway_breaker_state id=$gateway_request_id asks=$gateway_asks';
access_log logs/ours.log ours;
large_client_header_buffers 4 32k;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    access_log off;
    location / { return 200 "ok\n"; }
}
CONF
    $block->set_value(no_error_log => '[alert]') if !defined $block->no_error_log;
    $block->set_value(request => 'GET /none');
    $block->set_value(error_code => 404);
});

run_tests();

__DATA__

=== the search finds what it is for
--- after_request eval
sub {
    my %all = (%main::Stored, %main::Sent);
    cmp_ok(scalar keys %all, '>', 30, 'secrets');
    for my $name (sort keys %all) {
        my $word = $all{$name};
        my @spelt = ($word, main::encode_base64($word, ''), main::encode_base64("a:$word", ''), main::encode_base64url("xy$word."),
            main::encode_base64("x$word", ''), unpack('H*', $word), uc unpack('H*', $word), CORE::join('', map { sprintf '%%%02X', ord } split //, $word),
            substr($word, length($word) > 40 ? 9 : 0, 23));
        my @missed = grep { my $text = "text ...$_... text"; !grep { $_ eq $name } main::shown($text, \%all) } @spelt;
        is("@missed", '', "$name, in every spelling");
    }
    is(CORE::join(', ', main::shown('text ... cAnArY ... text', \%all)), '', 'and nothing else');
}


=== whatever clients send: replies, logs, metrics, health
--- after_request eval
sub {
    get('/few/', headers => "X-API-Key: $main::KeyEnv");
    my $replies = '';
    for my $round (1, 2) {
        for my $case (@main::Cases) {
            my ($name, $status, $path, $headers) = @$case;
            $headers = $headers->() if ref $headers;
            my $text = exchange("GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$headers" . ($headers ? "\r\n" : '') . "\r\n");
            like($text, qr{^HTTP/1\.1 $status }, $name) if $round == 1;
            $replies .= $text;
            # As a browser asks, and as a client of gRPC does.
            $replies .= exchange("GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$_\r\n$headers" . ($headers ? "\r\n" : '') . "\r\n")
                for 'Accept: text/html', 'Content-Type: application/grpc';
        }
        reload() if $round == 1;
    }
    main::clean('replies', $replies);
    main::clean('metrics', exchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    main::clean('health', exchange("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    sleep 0.1;
    my $log = main::whole('logs/ours.log');
    cmp_ok(main::lines($log, qr/\n/), '>=', 6 * @main::Cases, 'a line for each request');
    for my $reason (qw(auth.missing auth.signature auth.expired auth.revoked auth.malformed auth.key_unknown auth.password auth.replay)) {
        like($log, qr/reason=\Q$reason\E /, "with $reason");
    }
    main::clean('access log', $log);
    main::clean('error log', CORE::join '', main::records(errors()));
    my $debug = main::whole('logs/debug.log');
    like($debug, qr/\[debug\]/, 'nginx debugs') if `$ENV{TEST_NGINX_BINARY} -V 2>&1` =~ /--with-debug/;
    main::clean('debug log, secrets that nobody sent', $debug, \%main::Stored);
    main::clean('debug log, what is not of nginx itself', CORE::join '', main::records($debug));
}


=== whatever is written: edits, reloads, `nginx -t` and the program
--- after_request eval
sub {
    my $file = Test::Nginx::Socket::server_root() . '/conf/gateway.yaml';
    my $good = Gateway::slurp($file);
    main::spew("$main::Folder/good.yaml", $good);
    my $has_tool = defined $main::Tool;
    my $said = main::tested();
    like($said, qr/test is successful/, 'nginx -t on the good one');
    like($said, qr/in clear/, 'which has a secret in clear');
    Test::More::diag('no gatewayctl beside the module: what it says is not looked at') if !$has_tool;
    if ($has_tool) {
        $said .= main::tool('check', '--json', $file) . main::tool('check', $file) . main::tool('size', $file);
        for (['/jwt/', "Authorization: Bearer $main::Token"], ['/jwt/', "Authorization: Bearer $main::Forged"],
            ["/query/?token=$main::Forged", 'X-A: b'], ['/key/', "X-API-Key: $main::KeyEnv"], ['/key/', "X-API-Key: $main::Wrong"],
            ['/basic/', main::basic('ann', $main::Password)], ['/basic/', main::basic('ann', $main::Wrong)],
            ['/sig/', main::signed('/sig/', $main::SigKey, 'explained') =~ s/\r\n.*//sr], ['/cookie/', "Cookie: session=$main::Session"])
        {
            my $told = main::tool('explain', $file, 'GET', "http://localhost$_->[0]", '-H', $_->[1], '--json');
            like($told, qr/"/, 'explain tells');
            $said .= $told;
        }
    }
    main::clean('what is said of the good document', $said);
    for my $slip (@main::Slips) {
        my ($name, $from, $to) = @$slip;
        my $bad = $good;
        $bad =~ s/\Q$from\E/$to/ or die "$name: no $from\n";
        my $before = main::lines(errors(), qr/\[error\]/);
        main::spew($file, $bad);
        my $told = main::tested();
        unlike($told, qr/test is successful/, "$name: nginx -t");
        ok(until_true(3, sub { main::lines(errors(), qr/\[error\]/) > $before }), "$name: an edit");
        my $emergencies = main::lines(errors(), qr/\[emerg\]/);
        kill HUP => master();
        ok(until_true(3, sub { main::lines(errors(), qr/\[emerg\]/) > $emergencies }), "$name: a reload");
        if ($has_tool) {
            $told .= main::tool('check', '--json', $file) . main::tool('check', $file)
                . main::tool('diff', "$main::Folder/good.yaml", $file, '--json') . main::tool('diff', $file, "$main::Folder/good.yaml");
        }
        main::clean("$name: what is said", $told);
    }
    # One that differs in a secret, and in nothing else.
    if ($has_tool) {
        my $other = $good =~ s/\Q$main::HsClear\E/main::stored('another secret')/er;
        main::spew("$main::Folder/other.yaml", $other);
        my $told = main::tool('diff', "$main::Folder/good.yaml", "$main::Folder/other.yaml", '--json')
            . main::tool('diff', "$main::Folder/good.yaml", "$main::Folder/other.yaml");
        main::clean('a difference', $told);
    }
    main::spew($file, $good);
    is($_->{status}, 200, 'all is as before') for each_worker('/jwt/', headers => "Authorization: Bearer $main::Token");
    main::clean('error log', errors());
    main::clean('debug log, secrets that nobody sent', main::whole('logs/debug.log'), \%main::Stored);
    main::clean('access log', main::whole('logs/ours.log'));
    main::clean('metrics', get('/metrics')->{body});
}


=== a core dump of a worker has no page of the zone
--- main_config eval
"worker_rlimit_core 1g;\nworking_directory $::Folder;\n"
--- alerts: exited on signal 6
--- no_error_log
[emerg]
--- after_request eval
sub {
    is($_->{status}, 200, 'the zone is in use') for each_worker('/jwt/', headers => "Authorization: Bearer $main::Token");
    my ($pid) = worker_pids();
    no warnings 'portable';
    # The zone is the one shared mapping of its size; nginx's slab pool has the pages before the region.
    my (@zone, $range);
    for (split /\n/, Gateway::slurp("/proc/$pid/smaps")) {
        $range = undef if /^[0-9a-f]+-/;
        $range = [map { hex } $1, $2] if /^([0-9a-f]+)-([0-9a-f]+) rw-s / && hex($2) - hex($1) > 12 << 20;
        push @zone, [@$range, $_] if $range && /^VmFlags:/;
    }
    is(scalar @zone, 1, 'the zone');
    my ($from, $to, $flags) = @{$zone[0] // [0, 0, '']};
    like($flags, qr/ dd\b/, 'which the kernel is told to leave out');
    kill ABRT => $pid;
    ok(until_true(10, sub { !-d "/proc/$pid" }), 'the worker is gone');
    SKIP: {
        Test::More::skip('cores go to a program here', 1) if Gateway::slurp('/proc/sys/kernel/core_pattern') !~ /\Acore/;
        my @cores;
        ok(until_true(10, sub { @cores = glob "$main::Folder/core*" }), 'a core') or return;
        my $core = Gateway::slurp($cores[0]);
        my ($table, $size, $count) = unpack 'x32 Q x14 S S', $core;
        my ($inside, $segments) = (0, 0);
        for my $number (0 .. $count - 1) {
            my ($type, undef, undef, $address, undef, $filed) = unpack 'L L Q Q Q Q', substr $core, $table + $size * $number, $size;
            next if $type != 1;
            $segments++ if $filed;
            $inside += $filed if $address < $to && $address + $filed > $from;
        }
        cmp_ok($segments, '>', 5, 'with memory in it');
        is($inside, 0, 'and not a byte of the region');
        # What is on the heap is there: for whoever reads the log of this test.
        Test::More::diag(CORE::join ', ', 'in the core', main::shown($core, {%main::Stored, %main::Sent})) if $ENV{T_CORE};
        unlink @cores;
    }
}
