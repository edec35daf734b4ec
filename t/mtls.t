# Certificates of clients: nginx verifies them, the document says whose they are.

use lib 't';
use Gateway 'no_plan';

use File::Temp qw(tempdir);

# A CA, one that nobody trusts, and what each of them signed.
our $Keys = tempdir(CLEANUP => 1);
chmod 0755, $Keys;

sub openssl {
    my ($command) = @_;
    system("cd $Keys && openssl $command >>log 2>&1") == 0 or die "openssl $command\n";
}

for my $ca (qw(ca other)) {
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem");
}
for (['server', 'ca', '/CN=localhost', 'DNS:localhost'], ['acme', 'ca', '/O=Acme, Inc./CN=acme', 'DNS:acme.example'],
    ['spiffe', 'ca', '/CN=service', 'URI:spiffe://td/service'], ['printed', 'ca', '/CN=printed', 'DNS:x'],
    ['stranger', 'ca', '/CN=stranger', 'DNS:acme.example.org'], ['gone', 'ca', '/CN=gone', 'DNS:gone'],
    ['forged', 'other', '/O=Acme, Inc./CN=acme', 'DNS:acme.example'])
{
    my ($name, $ca, $subject, $san) = @$_;
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '$subject' -keyout $name.key -out $name.csr");
    open my $out, '>', "$Keys/$name.ext" or die;
    print $out "subjectAltName=$san\n";
    close $out;
    openssl("x509 -req -in $name.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem");
}
our ($Print) = `openssl x509 -in $Keys/printed.pem -noout -fingerprint -sha256` =~ /=(\S+)/;

# A request with the certificate `$name`, on a connection of its own: {status, body, headers}.
sub shown {
    my ($name, $path, %options) = @_;
    my $port = $Test::Nginx::Util::RandPorts->{TEST_NGINX_RAND_PORT_2} // Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_2', 'port', $Test::Nginx::Util::RandPorts);
    my $client = $name ? "--cert $Keys/$name.pem --key $Keys/$name.key" : '';
    my $more = $options{more} // '';
    my $raw = `curl -sik --max-time 10 --http1.1 $client $more https://127.0.0.1:$port$path`;
    my ($head, $body) = split /\r\n\r\n/, $raw, 2;
    my ($status) = ($head // '') =~ m{^HTTP/\S+ (\d+)};
    my %headers = ($head // '') =~ /^([^:\r\n]+):[ \t]*([^\r\n]*)/mg;
    return {status => $status // 0, body => $body // '', headers => {map { lc($_) => $headers{$_} } keys %headers}};
}

sub codes {
    my ($path, %expected) = @_;
    for my $name (sort keys %expected) {
        Test::More::is(shown($name eq 'none' ? '' : $name, $path)->{status}, $expected{$name}, "$path with $name");
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth:
  - name: devices
    mtls:
      consumers:
        - {subject: 'CN=acme,O=Acme\\, Inc.', consumer: acme}
        - {san: "URI:spiffe://td/service", consumer: service}
        - {san: acme.example, consumer: never}
        - {fingerprint: "sha256:$::Print", consumer: printed}
        - {subject: "CN=gone", consumer: gone}
  - {name: maybe, optional: true, mtls: {consumers: [{san: acme.example, consumer: acme}]}}
consumers: [{name: acme, permissions: ["a:read"]}, {name: gone, enabled: false}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: devices, paths: ["/devices/*"], upstream: u, auth: [devices]}
  - {name: reads, paths: ["/reads/*"], upstream: u, auth: [devices], permissions: {any: ["a:read"]}}
  - {name: open, paths: ["/open/*"], upstream: u, auth: [maybe]}
YAML
    my $verify = $block->verify // 'optional';
    chomp $verify;
    $block->set_value(http_config => <<"CONF") if !defined $block->http_config;
log_format mtls '\$uri reason=\$gateway_reason consumer=\$gateway_consumer';
server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_2 ssl;
    access_log logs/access.log mtls;
    ssl_certificate $::Keys/server.pem;
    ssl_certificate_key $::Keys/server.key;
    ssl_client_certificate $::Keys/ca.pem;
    ssl_verify_client $verify;
    location / { gateway_pass gateway; }
}
CONF
});

run_tests();

__DATA__

=== optional: whose certificate it is, and who is refused (one of another CA by nginx itself)
--- request
GET /devices/plain
--- error_code: 401
--- response_body_like: "code":"auth\.missing"
--- response_headers
WWW-Authenticate: Certificate
--- after_request eval
sub {
    main::codes('/devices/x', none => 401, acme => 200, spiffe => 200, printed => 200, stranger => 401, gone => 401, forged => 400);
    main::codes('/reads/x', none => 401, acme => 200, spiffe => 403, stranger => 401);
    main::codes('/open/x', none => 200, acme => 200, stranger => 401, forged => 400);
    my $refused = main::shown('stranger', '/devices/');
    like($refused->{body}, qr/"code":"auth\.invalid"/, 'no reason is told');
    unlike($refused->{body}, qr/stranger|certificate/, 'and no name');
    # nginx writes the line after the answer.
    my $log;
    until_true(2, sub { ($log = accesses()) =~ m{^/devices/ }m });
    like($log, qr{^/devices/x reason=\Q$_->[0]\E consumer=\Q$_->[1]\E$}m, "@$_")
        for ['-', 'acme'], ['-', 'service'], ['-', 'printed'], ['auth.certificate', '-'], ['auth.consumer', '-'], ['auth.missing', '-'];
    unlike($log, qr/never/, 'the first rule that fits decides');
}


=== a certificate is looked at in each connection, resumed sessions and kept connections included
--- request
GET /devices/plain
--- error_code: 401
--- after_request eval
sub {
    my $port = Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_2', 'port', $Test::Nginx::Util::RandPorts);
    my $urls = "https://127.0.0.1:$port/devices/1 -o /dev/null https://127.0.0.1:$port/devices/2 -o /dev/null";
    my $codes = `curl -sk --max-time 10 --http1.1 -w '%{http_code} ' --cert $main::Keys/acme.pem --key $main::Keys/acme.key $urls`;
    is($codes, '200 200 ', 'a connection that is kept');
    $codes = `curl -sk --max-time 10 --http1.1 -w '%{http_code} ' $urls`;
    is($codes, '401 401 ', 'none on another');
    my $session = "$main::Keys/session";
    my $ask = sub {
        my ($options, $path) = @_;
        return `printf 'GET $path HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | timeout 10 openssl s_client -quiet -no_ign_eof -tls1_2 -connect 127.0.0.1:$port $options 2>/dev/null`;
    };
    my $first = $ask->("-cert $main::Keys/acme.pem -key $main::Keys/acme.key -sess_out $session -ign_eof", '/devices/3');
    like($first, qr{^HTTP/1\.1 200}, 'a full handshake');
    my $again = $ask->("-sess_in $session -ign_eof", '/devices/4');
    like($again, qr{^HTTP/1\.1 200}, 'a resumed one carries it on');
}


=== on: without a good certificate nginx itself refuses
--- verify: on
--- request
GET /devices/plain
--- error_code: 401
--- after_request eval
sub { main::codes('/devices/x', none => 400, acme => 200, stranger => 401, forged => 400) }


=== off: nobody is asked for one, so nobody shows one
--- verify: off
--- request
GET /devices/plain
--- error_code: 401
--- after_request eval
sub { main::codes('/devices/x', none => 401, acme => 401) }


=== optional_no_ca: a certificate that nobody verified is nobody's
--- verify: optional_no_ca
--- request
GET /devices/plain
--- error_code: 401
--- after_request eval
sub { main::codes('/devices/x', none => 401, acme => 200, forged => 401) }


=== an edit takes a certificate away on each connection's next request; a reload keeps that
--- request
GET /devices/plain
--- error_code: 401
--- after_request eval
sub {
    main::codes('/devices/x', printed => 200);
    edit('consumer: printed', 'consumer: gone', sub { main::shown('printed', '/devices/')->{status} == 401 });
    main::codes('/devices/x', printed => 401, acme => 200);
    ok(reload(), 'reload');
    main::codes('/devices/x', printed => 401, acme => 200);
}


=== headers cannot forge a certificate
--- request
GET /devices/plain
--- more_headers
SSL-Client-Verify: SUCCESS
SSL-Client-S-Dn: CN=acme,O=Acme\, Inc.
X-SSL-Client-Cert: x
--- error_code: 401


=== misconfigured
--- gateway
version: 1
auth:
  - {name: a, mtls: {}}
  - {name: b, mtls: {consumers: [{consumer: a}]}}
  - {name: c, mtls: {consumers: [{subject: "CN=a", san: b, consumer: a}]}}
  - {name: d, mtls: {consumers: [{fingerprint: "sha256:12", consumer: a}]}}
  - {name: e, mtls: {consumers: [{san: "IP:1.2.3.4", consumer: a}]}}
  - {name: f, mtls: {consumers: [{subject: "CN=a", consumer: a}, {subject: "CN=a", consumer: b}]}}
  - {name: g, mtls: {consumers: [{subject: "CN=a"}]}}
routes: [{name: r, paths: ["/*"], auth: [a]}]
--- must_die
--- error_log
auth[0].mtls: needs `consumers`
auth[1].mtls.consumers[0]: needs exactly one of
auth[2].mtls.consumers[0]: needs exactly one of
auth[3].mtls.consumers[0].fingerprint: must be
auth[4].mtls.consumers[0].san: must be
auth[5].mtls.consumers[1]: asks for the same
auth[6].mtls.consumers[0]: 
--- suppress_stderr
