# Users and passwords: every kind of hash, who waits and who does not, what is remembered and what an edit ends.

use lib 't';
use Gateway 'no_plan';

use File::Temp qw(tempdir);
use IO::Select;
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);

our $Files = tempdir(CLEANUP => 1);
chmod 0755, $Files;
our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Password = 'correct horse: battery';

# crypt(3) and openssl make them; argon2's is that of its own tests, for the password "password".
our %Hash = (
    bcrypt_y => crypt($Password, '$2y$04$abcdefghijklmnopqrstuu'),
    bcrypt_a => crypt($Password, '$2a$04$abcdefghijklmnopqrstuu'),
    bcrypt_b => crypt($Password, '$2b$04$abcdefghijklmnopqrstuu'),
    slow     => crypt($Password, '$2y$10$abcdefghijklmnopqrstuu'),
    sha256   => crypt($Password, '$5$saltsalt'),
    sha512   => crypt($Password, '$6$rounds=1000$saltsalt'),
    openssl  => scalar(`openssl passwd -6 '$Password'`) =~ s/\s+//r,
    sha1     => '{SHA}' . scalar(`printf %s '$Password' | openssl dgst -sha1 -binary | base64`) =~ s/\s+//r,
    gone     => crypt($Password, '$2y$04$abcdefghijklmnopqrstuu'),
    argon2   => '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4',
);

sub htpasswd {
    my (%hashes) = @_;
    open my $out, '>:raw', "$Files/htpasswd.new" or die;
    print $out "# users\n", map { "$_:$hashes{$_}\n" } sort keys %hashes;
    close $out;
    rename "$Files/htpasswd.new", "$Files/htpasswd" or die;
}
htpasswd(%Hash);

# What no file should say.
for (['plain', "ann:secret"], ['des', "a:$Hash{sha1}\nann:rl3uoGJGSCNoE"], ['apr1', 'ann:$apr1$abcdefgh$0123456789012345678901'],
    ['twice', "ann:$Hash{sha1}\nbob:$Hash{sha1}\nann:$Hash{sha1}"])
{
    open my $out, '>', "$Files/$_->[0]" or die;
    print $out "$_->[1]\n";
    close $out;
}

sub basic { 'Authorization: Basic ' . encode_base64(CORE::join(':', @_), '') }

# Sends a request and does not wait for what comes.
sub begin {
    my ($path, $headers) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port(), Timeout => 5)
        or die "begin: $!\n";
    print $socket "GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$headers\r\n\r\n";
    $socket->flush;
    return $socket;
}

# How many of `@sockets` have nothing to read yet.
sub silent { my @ready = IO::Select->new(@_)->can_read(0); return @_ - @ready }

# Reads each to its end: {status => how many}, and the answers.
sub finish {
    my (%seen, @answers);
    for my $socket (@_) {
        my ($text, $select) = ('', IO::Select->new($socket));
        while ($select->can_read(40)) { sysread $socket, $text, 65536, length $text or last }
        my ($status) = $text =~ m{^HTTP/1\.1 (\d+)};
        $seen{$status // 0}++;
        push @answers, $text;
    }
    return (\%seen, @answers);
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth:
  - {name: logins, basic: {file: $::Files/htpasswd}}
  - {name: tokens, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "\$env://T_SECRET"}]}}
consumers: [{name: sha1, permissions: ["a:read"]}, {name: gone, enabled: false}]
limiters: [{name: few, key: [consumer], rate: 1/h, burst: 3}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: page, paths: ["/page/*"], upstream: u, auth: [logins]}
  - {name: any, paths: ["/any/*"], upstream: u, auth: [tokens, logins]}
  - {name: reads, paths: ["/reads/*"], upstream: u, auth: [logins], permissions: {any: ["a:read"]}}
  - {name: limited, paths: ["/limited/*"], upstream: u, auth: [logins], limits: [few]}
  - {name: free, paths: ["/free/*"], upstream: u}
YAML
    $block->set_value(http_config => "log_format reason '\$request_uri \$status reason=\$gateway_reason consumer=\$gateway_consumer asks=\$gateway_asks';\n"
        . "access_log logs/access.log reason;\n" . ($block->http_config // ''));
});

run_tests();

__DATA__

=== no password: 401 that asks for one
--- request
GET /page/1
--- error_code: 401
--- response_headers
WWW-Authenticate: Basic realm="gateway", charset="UTF-8"
--- response_body_like: "code":"auth\.missing"
--- access_log
/page/1 401 reason=auth.missing consumer=- asks=0


=== every kind of hash; the second time nothing is asked
--- request
GET /page/
--- error_code: 401
--- after_request eval
sub {
    for my $user (sort keys %main::Hash) {
        my $password = $user eq 'argon2' ? 'password' : $main::Password;
        my $expected = $user eq 'gone' ? 401 : 200;
        is($_->{status}, $expected, "$user") for each_worker("/page/$user/1", headers => main::basic($user, $password));
        is($_->{status}, $expected, "$user again") for each_worker("/page/$user/2", headers => main::basic($user, $password));
        is(get("/page/$user/3", headers => main::basic($user, "${password}x"))->{status}, 401, "$user, wrong");
        is(get("/page/$user/4", headers => main::basic($user, ''))->{status}, 401, "$user, empty");
    }
    my $log;
    until_true(2, sub { ($log = accesses()) =~ m{^/page/slow/4 }m });
    for my $user (grep { $_ ne 'gone' } sort keys %main::Hash) {
        like($log, qr{^/page/$user/1 200 reason=- consumer=$user asks=1$}m, "$user was asked for");
        unlike($log, qr{^/page/$user/2 \d+ .* asks=[1-9]}m, "$user was known");
        like($log, qr{^/page/$user/3 401 reason=auth\.password consumer=- asks=1$}m, "$user, why");
    }
    like($log, qr{^/page/gone/1 401 reason=auth\.consumer}m, 'a disabled consumer');
    unlike(errors() . $log, qr/\Q$main::Password\E|\Q$main::Hash{slow}\E/, 'no password and no hash in a log');
}


=== who nobody knows, and what is no password
--- request
GET /page/
--- error_code: 401
--- after_request eval
sub {
    my $wrong = get('/page/wrong', headers => main::basic('slow', 'x'));
    my $unknown = get('/page/unknown', headers => main::basic('nobody', 'x'));
    for my $answer ($wrong, $unknown) {
        is($answer->{status}, 401, 'refused');
        $answer->{body} =~ s/"request_id":"[^"]*"//;
        delete @{$answer->{headers}}{qw(x-worker date)};
    }
    is_deeply($wrong, $unknown, 'who is unknown gets the same answer as who is wrong');
    is(get("/page/malformed", headers => "Authorization: $_")->{status}, 401, "malformed: $_")
        for 'Basic', 'Basic x', 'Basic YTpi=', 'Basic ' . main::encode_base64("a:b\n", ''), 'Basic ' . main::encode_base64('ab', ''),
        'Basic ' . main::encode_base64("a:" . 'x' x 2000, '');
    my $log;
    until_true(2, sub { my @lines = ($log = accesses()) =~ m{^/page/malformed }mg; @lines == 6 });
    like($log, qr{^/page/$_ 401 reason=auth\.password consumer=- asks=1$}m, "$_ was looked at") for qw(wrong unknown);
    my @malformed = $log =~ m{^/page/malformed 401 reason=auth\.malformed consumer=- asks=0$}mg;
    is(scalar @malformed, 6, 'and what is malformed was not');
}


=== any of two, permissions, limits by consumer
--- request
GET /any/
--- error_code: 401
--- after_request eval
sub {
    my $token = jwt({iss => 'i', aud => 'a', sub => 'ada'}, $main::Secret);
    is(get('/any/1', headers => "Authorization: Bearer $token")->{status}, 200, 'a token');
    is(get('/any/2', headers => main::basic('sha1', $main::Password))->{status}, 200, 'a password');
    is(get('/any/3', headers => 'Authorization: Bearer x.y.z')->{status}, 401, 'a bad token');
    is(get('/any/4', headers => main::basic('sha1', 'x'))->{status}, 401, 'a bad password');
    is(get('/reads/1', headers => main::basic('sha1', $main::Password))->{status}, 200, 'permitted');
    is(get('/reads/2', headers => main::basic('sha256', $main::Password))->{status}, 403, 'not permitted');
    my @statuses = map { get("/limited/$_", headers => main::basic('sha512', $main::Password))->{status} } 1 .. 4;
    is("@statuses", '200 200 200 429', 'a request that waits spends one token');
}


=== 200 logins at once keep nobody else waiting; beyond a bound they have to come back later
--- request
GET /free/
--- after_request eval
sub {
    # 64 at once and worker take their time; the other ones are told to come back.
    my @logins = map { main::begin("/page/flood/$_", main::basic('slow', "guess $_")) } 1 .. 200;
    my ($slowest, @statuses) = 0;
    for my $number (1 .. 20) {
        my $from = time;
        push @statuses, get("/free/$number")->{status};
        $slowest = time - $from if time - $from > $slowest;
    }
    my $silent = main::silent(@logins);
    is("@statuses", CORE::join(' ', (200) x 20), 'requests without a password');
    cmp_ok($silent, '>', 0, 'were answered while logins waited');
    cmp_ok($slowest, '<', 3, 'and at once');
    my ($seen, @answers) = main::finish(@logins);
    is(($seen->{401} // 0) + ($seen->{503} // 0), 200, 'each login was answered') or diag(CORE::join ' ', %$seen);
    cmp_ok($seen->{401} // 0, '>=', 64, 'at least as many as may wait were looked at');
    cmp_ok($seen->{503} // 0, '>', 0, 'some have to come back');
    my ($busy) = grep { m{^HTTP/1\.1 503} } @answers;
    like($busy, qr/^Retry-After: 1\r$/m, 'and are told when');
    like($busy, qr/"code":"auth\.busy"/, 'and why');
    is(get('/page/after', headers => main::basic('slow', $main::Password))->{status}, 200, 'there is room again');
}


=== 200 logins with one password are one look in each worker
--- request
GET /free/
--- after_request eval
sub {
    my ($seen) = main::finish(map { main::begin("/page/same/$_", main::basic('slow', $main::Password)) } 1 .. 200);
    is_deeply($seen, {200 => 200}, 'all of them are let in');
    my $log;
    until_true(2, sub { my @lines = ($log = accesses()) =~ m{^/page/same/}mg; @lines == 200 });
    my @lines = $log =~ m{^/page/same/\d+ 200 reason=- consumer=slow asks=[01]$}mg;
    is(scalar @lines, 200, 'and none asks twice');
}


=== a body that comes while its request waits is forwarded; so are pipelined requests
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "$request_method $request_uri $content_length\n"; }
}
--- request
GET /free/
--- after_request eval
sub {
    my $login = main::basic('slow', $main::Password);
    my $answer = get('/page/body', method => 'POST', body => 'x' x 100_000, headers => $login);
    is($answer->{body}, "POST /page/body 100000\n", 'a body');
    $login = main::basic('slow', 'wrong');
    my $text = exchange("GET /page/1 HTTP/1.1\r\nHost: x\r\n$login\r\n\r\nGET /free/2 HTTP/1.1\r\nHost: x\r\n\r\n"
        . "GET /free/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    my @statuses = $text =~ m{HTTP/1\.1 (\d+)}g;
    is("@statuses", '401 200 200', 'pipelined');
}


=== clients that go away while they wait leave nothing behind
--- request
GET /free/
--- after_request eval
sub {
    for my $round (1 .. 3) {
        my @logins = map { main::begin("/page/gone/$round/$_", main::basic('slow', "gone $round $_")) } 1 .. 40;
        close $_ for @logins;
    }
    ok(until_true(10, sub { my @lines = accesses() =~ m{^/page/gone/\d+/\d+ (?:499|401|503) }mg; @lines == 120 }), 'all are over');
    like(accesses(), qr{^/page/gone/\d+/\d+ 499 reason=- consumer=- asks=1$}m, 'while they waited');
    ok(until_true(20, sub { get('/metrics')->{body} =~ /^gateway_active_connections [012]$/m }), 'nobody is in flight')
        or diag(get('/metrics')->{body} =~ /^(gateway_active_connections.*)$/m);
    is(get('/page/after', headers => main::basic('slow', $main::Password))->{status}, 200, 'there is room again');
}


=== a reload and a graceful stop let those that wait have their answers
--- request
GET /free/
--- after_request eval
sub {
    my @logins = map { main::begin("/page/reload/$_", main::basic('slow', "guess $_")) } 1 .. 60;
    ok(until_true(5, sub { main::silent(@logins) < 60 }), 'some are answered');
    cmp_ok(main::silent(@logins), '>', 0, 'others still wait');
    ok(reload(), 'reload');
    my ($seen) = main::finish(@logins);
    is_deeply($seen, {401 => 60}, 'each has its answer') or diag(CORE::join ' ', %$seen);
    is($_->{status}, 200, 'new workers know') for each_worker('/page/new', headers => main::basic('slow', $main::Password));
}
--- no_error_log
[error]
[emerg]
open socket


=== HTTP/2: many streams of one connection wait, others go on, a reset stream leaves nothing behind
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 http2;
    location / { gateway_pass gateway; }
}
--- request
GET /free/
--- after_request eval
sub {
    my $base = 'http://127.0.0.1:' . Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_2', 'port', $Test::Nginx::Util::RandPorts);
    # All at once on one connection; {status => how many}.
    my $streams = sub {
        my ($user, $password, $seconds, @paths) = @_;
        my $urls = CORE::join ' ', map { "'$base$_'" } @paths;
        my %seen;
        $seen{$_}++ for `timeout $seconds nghttp -nv -H '@{[lcfirst main::basic($user, $password)]}' $urls` =~ /recv \(stream_id=\d+\) :status: (\d+)/g;
        return \%seen;
    };
    is_deeply($streams->('slow', $main::Password, 20, map { "/page/h2/$_" } 1 .. 20), {200 => 20}, 'good ones');
    is_deeply($streams->('slow', 'wrong in h2', 20, (map { "/page/h2/$_" } 21 .. 30), (map { "/free/$_" } 1 .. 5)),
        {200 => 5, 401 => 10}, 'bad ones beside requests without a password');
    my @guesses = map { main::begin("/page/h2/busy/$_", main::basic('slow', "busy $_")) } 1 .. 40;
    $streams->('slow', "reset $_", 0.05, map { "/page/reset/$_" } 1 .. 5) for 1 .. 5;
    main::finish(@guesses);
    ok(until_true(10, sub { get('/metrics')->{body} =~ /^gateway_active_connections [012]$/m }), 'nobody is in flight');
    is(get('/page/after', headers => main::basic('slow', $main::Password))->{status}, 200, 'there is room again');
}
--- no_error_log
[alert]
[emerg]


=== a worker that is told to stop at once does so, whatever its thread does
--- request
GET /free/
--- after_request eval
sub {
    my @logins = map { main::begin("/page/stop/$_", main::basic('slow', "stop $_")) } 1 .. 100;
    ok(until_true(5, sub { main::silent(@logins) < 100 }), 'some are answered');
    my %old = map { $_ => 1 } worker_pids();
    kill TERM => keys %old;
    ok(until_true(3, sub { my @now = worker_pids(); @now == 2 && !grep { $old{$_} } @now }), 'others are in their place');
    my ($seen) = main::finish(@logins);
    cmp_ok($seen->{0} // 0, '>', 0, 'who waited is cut off');
    is($_->{status}, 200, 'the new ones work') for each_worker('/page/new', headers => main::basic('slow', $main::Password));
}
--- no_error_log
[alert]
[emerg]


=== an edit of the file counts when the document is touched; what was known of the old hash is not
--- request
GET /free/
--- after_request eval
sub {
    my $login = main::basic('slow', $main::Password);
    is($_->{status}, 200, 'known') for each_worker('/page/', headers => $login);
    main::htpasswd(%main::Hash, slow => crypt('other', '$2y$04$abcdefghijklmnopqrstuu'));
    edit('version: 1', "version: 1\n#", sub { get('/page/', headers => $login)->{status} == 401 });
    is($_->{status}, 401, 'the old one is refused') for each_worker('/page/', headers => $login);
    is($_->{status}, 200, 'the new one is not') for each_worker('/page/', headers => main::basic('slow', 'other'));
    is($_->{status}, 200, 'others are as before') for each_worker('/page/', headers => main::basic('sha1', $main::Password));
    # A mistake in it changes nothing.
    main::htpasswd(%main::Hash, slow => 'plain');
    edit("version: 1\n#", "version: 1\n##");
    is(get('/page/', headers => main::basic('slow', 'other'))->{status}, 200, 'as before');
    like(errors(), qr/\[error\].*auth\[0\]\.basic\.file: `\Q$main::Files\E\/htpasswd` line \d+: neither a hash/, 'the line is named');
    unlike(errors(), qr/plain\b(?! text)/, 'and not shown');
    main::htpasswd(%main::Hash);
}
--- no_error_log
[alert]


=== with `satisfy any`, an error page, a subrequest
--- config
    add_header X-Worker $pid always;
    location /page/ { satisfy any; deny all; gateway_pass gateway; }
    location /reads/ { error_page 401 /login; gateway_pass gateway; }
    location = /login { internal; return 401 "login here\n"; }
    location = /page/login { error_page 401 /page/login; gateway_pass gateway; }
    location /free/ { gateway_pass gateway; }
--- request
GET /free/
--- after_request eval
sub {
    is(get('/page/', headers => main::basic('sha512', $main::Password))->{status}, 200, 'let in');
    is(get('/page/', headers => main::basic('sha512', 'x'))->{status}, 401, 'let in by nobody');
    my $page = get('/reads/', headers => main::basic('sha512', 'x'));
    is("$page->{status} $page->{body}", "401 login here\n", 'the page of the location');
    # An error page that is the page itself asks once more and is refused once more.
    is(get('/page/login', headers => main::basic('slow', 'y'))->{status}, 401, 'refused each time');
    is(get('/page/login', headers => main::basic('slow', $main::Password))->{status}, 200, 'and let in');
}
--- no_error_log
[alert]


=== misconfigured
--- gateway eval
"version: 1
auth:
  - {name: a, basic: {file: $::Files/none}}
  - {name: b, basic: {file: $::Files/plain}}
  - {name: c, basic: {file: $::Files/des}}
  - {name: d, basic: {file: $::Files/apr1}}
  - {name: e, basic: {file: $::Files/twice}}
  - {name: f, basic: {}}
  - {name: g, basic: {users: {ann: secret}}}
routes: [{name: r, paths: ['/*'], auth: [a]}]
"
--- must_die
--- error_log
auth[0].basic.file: cannot read
line 1: neither a hash
line 2: traditional DES
line 1: MD5-crypt
line 3: the user `ann` is there twice
auth[5].basic: needs `file`
auth[6].basic.users.ann: neither a hash
--- suppress_stderr
