# Key sets from URLs and files: new keys reach all workers, bad answers change nothing, and no request waits for an issuer.

use lib 't';
use Gateway 'no_plan';

use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);

our $Folder = tempdir(CLEANUP => 1);
chmod 0755, $Folder;

# Keys as an issuer makes them: the last 64 bytes of a public key on P-256 are its point.
our %Key;
for my $name (qw(old new other)) {
    my $path = "$Folder/$name";
    system("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $path.key 2>/dev/null") == 0 or die "openssl\n";
    my $point = substr `openssl pkey -in $path.key -pubout -outform DER`, -64;
    $Key{$name} = {kty => 'EC', crv => 'P-256', use => 'sig', kid => $name, alg => 'ES256',
        x => encode_base64url(substr $point, 0, 32), y => encode_base64url(substr $point, 32)};
}
our %Bearer = map { $_ => 'Authorization: Bearer ' . signed($_) } keys %Key;

# An authority and a server's certificate from it.
system("cd $Folder && exec 2>/dev/null"
    . " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
    . " && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=issuer"
    . " && printf subjectAltName=IP:127.0.0.1 > san"
    . " && openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.pem") == 0
    or die "openssl\n";

# An issuer for each block: nginx asks before a block can say a word.
spew("$Folder/jwks.json", set('old'));
our %Port = map { $_ => issuer($_) } qw(first change bad slow killed);
$Port{tls} = issuer('tls', "$Folder/tls.pem", "$Folder/tls.key");
# Nobody may come here.
our $Elsewhere = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "$!\n";
our $Other = $Elsewhere->sockport;

sub signed {
    my ($name) = @_;
    my $text = jwt({iss => 'i', aud => 'a', sub => 'ada'}, '', {alg => 'ES256', kid => $name});
    $text =~ s/\.[^.]*\z//;
    spew("$Folder/text", $text);
    # RFC 7518, 3.4: two numbers of 32 bytes each, where openssl writes ASN.1.
    my $signature = `openssl dgst -sha256 -sign $Folder/$name.key $Folder/text`;
    my ($r, $s) = unpack 'x3 C/a x C/a', $signature;
    return "$text." . encode_base64url(join '', map { substr(("\0" x 32) . $_, -32) } $r, $s);
}

sub spew {
    my ($path, $text) = @_;
    open my $out, '>:raw', "$path.new" or die "$path: $!\n";
    print $out $text;
    close $out or die "$path: $!\n";
    rename "$path.new", $path or die "$path: $!\n";
}

# A server of our own until the file ends, on a free port.
sub issuer {
    my ($name, @tls) = @_;
    mkdir "$Folder/$name";
    $name eq 'first' ? says($name, '500 Internal Server Error', '') : says($name, '200 OK', set('old'));
    my $port = Gateway::free_port();
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        exec 'python3', 't/lib/issuer', $port, "$Folder/$name", @tls or die "python3: $!\n";
    }
    Test::Nginx::Socket::add_cleanup_handler(sub {
        local $?;
        kill TERM => $pid;
        waitpid $pid, 0;
    });
    until_true(5, sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1) }) or die "issuer: not up\n";
    return $port;
}

# What an issuer says from now on.
sub says {
    my ($name, $head, $body, $delay) = @_;
    $delay ? spew("$Folder/$name/delay", $delay) : unlink "$Folder/$name/delay";
    spew("$Folder/$name/answer", "HTTP/1.1 $head\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
}

sub set { JSON::PP->new->canonical->encode({keys => [map { $Key{$_} } @_]}) }

sub asked {
    my ($name) = @_;
    return scalar(() = Gateway::slurp("$Folder/$name/asked") =~ /\n/g);
}

# The status that each worker gives to a token.
sub each_status { join ' ', map { $_->{status} } each_worker('/', headers => $Bearer{$_[0]}) }

sub is_let_in {
    my ($name) = @_;
    return sub { get('/', headers => $Bearer{$name})->{status} == 200 };
}

{
    no strict 'refs';
    *{"Test::Base::Filter::$_"} = \&{"main::$_"} for qw(spew says set asked each_status is_let_in);
}

add_block_preprocessor(sub {
    my $block = shift;
    # What an issuer does wrong is told as an error until there is a set.
    $block->set_value(no_error_log => '[alert]') if !defined $block->no_error_log && !defined $block->must_die;
    my $issuer = $block->issuer;
    my $jwks = defined $issuer ? "{url: \"http://127.0.0.1:$Port{$issuer}/jwks\"}" : $block->jwks;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth: [{name: idp, jwt: {issuer: i, audience: a, jwks: $jwks}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: open, paths: ["/open"], upstream: u}
  - {name: all, paths: ["/*"], upstream: u, auth: [idp]}
YAML
});

run_tests();

__DATA__

=== before the first set 503 and when to come back; then the key is there for both workers
--- issuer: first
--- request eval
["GET /", "GET /", "GET /open"]
--- more_headers eval
[$::Bearer{old}, "", ""]
--- error_code eval
[503, 401, 200]
--- response_headers eval
["Retry-After: 5\n! WWW-Authenticate", "WWW-Authenticate: Bearer", "! Retry-After"]
--- response_body_like eval
['"detail":"Credentials cannot be checked at the moment; see Retry-After\.","code":"auth\.keys_unavailable"', 'auth\.missing', 'one GET']
--- after_request eval
[sub {}, sub {}, sub {
    says('first', '200 OK', set('old'));
    ok(until_true(10, is_let_in('old')), 'let in');
    is(each_status('old'), '200 200', 'each worker');
    is(each_status('new'), '401 401', 'another key is none');
    like(errors(), qr/\[error\].*keys of "idp": http:\S+: the answer has status 500; there is no set yet/, 'told');
    like(errors(), qr/\[notice\].*keys of "idp": 1 key from http:/, 'told, too');
}]


=== a key that the issuer changes comes with the first token that names it, and the old one goes
--- issuer: change
--- request
GET /open
--- after_request eval
sub {
    ok(until_true(5, is_let_in('old')), 'the first set');
    is(each_status('old'), '200 200', 'each worker');
    my $before = asked('change');
    says('change', '200 OK', set('new', 'other'));
    sleep 1;
    is(asked('change'), $before, 'nobody asks for nothing');
    my $first = get('/', headers => $main::Bearer{new});
    is("$first->{status} $first->{headers}{'www-authenticate'}", '401 Bearer', 'the first one is refused');
    ok(until_true(2, is_let_in('new')), 'its next try is not');
    is(each_status($_), '200 200', "each worker, $_") for 'new', 'other';
    is(each_status('old'), '401 401', 'each worker, old');
    # The flood: one more fetch at most, whatever is made up.
    my $seen = burst(2000, '/', headers => $main::Bearer{old});
    is($seen->{401}, 2000, 'all refused');
    sleep 0.6;
    cmp_ok(asked('change') - $before, '<=', 1, 'one fetch in 30 s');
    like(errors(), qr/\[notice\].*keys of "idp": 2 keys from http:/, 'told');
}


=== whatever comes instead of a set, the last good one stays, also for the next workers
--- issuer: bad
--- request
GET /open
--- after_request eval
sub {
    ok(until_true(5, is_let_in('old')), 'the first set');
    for (
        ['500 Internal Server Error', '', 'the answer has status 500'],
        ['200 OK', '<html><body>Welcome</body></html>', 'the set is not strict JSON'],
        ['200 OK', '{"keys":[]}', 'no usable key'],
        ['200 OK', '[' . JSON::PP->new->encode($main::Key{new}) . ']', 'not a JWK set: no array `keys`'],
        ['200 OK', '{"keys":[],"x":"' . ('x' x (5 << 20)) . '"}', 'larger than 1048576 bytes'],
        ["302 Found\r\nLocation: http://127.0.0.1:$main::Other/jwks", '', 'a redirect that is not followed: it leads to another host'],
        ["302 Found\r\nLocation: /jwks", '', 'more than 3 redirects'],
    ) {
        my ($head, $body, $told) = @$_;
        says('bad', $head, $body);
        # The next cache manager asks at once.
        ok(reload(), "reload, $told");
        ok(until_true(10, sub { errors() =~ /\[warn\].*keys of "idp": http:\S+: (?:$told); the last good set stays/ }), $told) or diag(errors() =~ /.*keys of .*/g);
        is(each_status('old'), '200 200', "each worker, $told");
        is(each_status('new'), '401 401', "each worker, another key, $told");
    }
    ok(!IO::Select->new($main::Elsewhere)->can_read(0), 'nobody was led away');
}


=== a slow issuer delays nothing: no request, no edit, no reload
--- issuer: slow
--- request
GET /open
--- after_request eval
sub {
    ok(until_true(5, is_let_in('old')), 'the first set');
    my $before = asked('slow');
    says('slow', '200 OK', set('new'), 8);
    get('/', headers => $main::Bearer{new});
    ok(until_true(2, sub { asked('slow') > $before }), 'a fetch is under way');
    my $begun = time;
    my $worst = 0;
    for (1 .. 50) {
        my $start = time;
        my $status = get('/', headers => $main::Bearer{old})->{status};
        is($status, 200, 'answered') if $status != 200;
        my $took = time - $start;
        $worst = $took if $took > $worst;
    }
    cmp_ok($worst, '<', 1, 'no request waits');
    ok(edit('name: all', 'name: renamed', sub { (get('/', headers => $main::Bearer{old})->{headers}{'x-route'} // '') eq 'renamed' }), 'an edit is live');
    cmp_ok(time - $begun, '<', 6, 'all that while it is under way');
    ok(reload(), 'a reload');
    is(each_status('old'), '200 200', 'each worker');
    # The thread of the leader that went away was in the middle of it.
    sleep 0.5;
    says('slow', '200 OK', set('new'));
    ok(reload(), 'another one');
    ok(until_true(10, is_let_in('new')), 'and the key comes');
}


=== the process that fetches is killed in the middle of it: the set stays, and another one goes on
--- issuer: killed
--- request
GET /open
--- after_request eval
sub {
    ok(until_true(5, is_let_in('old')), 'the first set');
    my $before = asked('killed');
    says('killed', '200 OK', set('new'), 20);
    get('/', headers => $main::Bearer{new});
    ok(until_true(2, sub { asked('killed') > $before }), 'a fetch is under way');
    my $master = master();
    my ($manager) = grep { Gateway::slurp("/proc/$_/stat") =~ /\) \S $master / && Gateway::slurp("/proc/$_/cmdline") =~ /cache manager/ }
        map { m{(\d+)} } glob '/proc/[0-9]*';
    says('killed', '200 OK', set('new'));
    is(kill(KILL => $manager), 1, 'killed');
    ok(until_true(10, is_let_in('new')), 'the key comes');
    is(each_status($_->[0]), $_->[1], "each worker, $_->[0]") for ['new', '200 200'], ['old', '401 401'];
}
--- alerts: exited on signal 9
--- no_error_log
[emerg]


=== a file: exchanged, broken, mended
--- jwks eval
"{file: $::Folder/jwks.json}"
--- request
GET /open
--- after_request eval
sub {
    ok(until_true(5, is_let_in('old')), 'the first set');
    is(each_status('old'), '200 200', 'each worker');
    spew("$main::Folder/jwks.json", set('old', 'new'));
    ok(until_true(2, is_let_in('new')), 'a key more');
    is(each_status($_), '200 200', "each worker, $_") for 'old', 'new';
    spew("$main::Folder/jwks.json", '{"keys":');
    ok(until_true(2, sub { errors() =~ /\[warn\].*jwks\.json: the set is not strict JSON; the last good set stays/ }), 'broken');
    unlink "$main::Folder/jwks.json";
    ok(until_true(2, sub { errors() =~ /\[warn\].*jwks\.json: cannot be looked at: .*the last good set stays/ }), 'gone');
    is(each_status('new'), '200 200', 'each worker');
    spew("$main::Folder/jwks.json", set('new'));
    ok(until_true(2, sub { !is_let_in('old')->() }), 'mended, with a key less');
    is(each_status('old') . ' ' . each_status('new'), '401 401 200 200', 'each worker');
}


=== https: a certificate that nobody vouches for is not believed
--- jwks eval
"{url: \"https://127.0.0.1:$::Port{tls}/jwks\"}"
--- request
GET /
--- more_headers eval
$::Bearer{old}
--- error_code: 503
--- after_request eval
sub {
    ok(until_true(5, sub { errors() =~ /\[error\].*keys of "idp": https:\S+: .*there is no set yet/ }), 'told');
    is(asked('tls'), 0, 'nothing was asked');
    ok(edit('/jwks"', "/jwks\", ca: $main::Folder/ca.pem"), 'with its certificate');
    ok(until_true(5, is_let_in('old')), 'let in');
    is(each_status('old'), '200 200', 'each worker');
}


=== a source that cannot be
--- jwks
{file: jwks.json}
--- must_die
--- error_log
auth[0].jwt.jwks.file: must be an absolute path


=== a URL that anybody on the way can answer is warned of
--- jwks
{url: "http://192.0.2.1/jwks"}
--- request
GET /open
--- error_log
auth[0].jwt.jwks.url: is `http`: whoever is on the way can hand us keys
