# TLS towards upstreams: who is verified, which name is asked for, and which connections are used again.

use lib 't';
use Gateway 'no_plan';

use File::Temp qw(tempdir);

# Kept connections are a worker's.
workers(1);

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
for (['node', 'ca', 'DNS:a.example,DNS:b.example'], ['forged', 'other', 'DNS:a.example'], ['us', 'ca', 'DNS:gateway']) {
    my ($name, $ca, $san) = @$_;
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr");
    open my $out, '>', "$Keys/$name.ext" or die;
    print $out "subjectAltName=$san\n";
    close $out;
    openssl("x509 -req -in $name.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem");
}

# A node that says how it was spoken to. `$connection` tells connections apart.
sub node {
    my ($port, $certificate, $more) = @_;
    return <<"CONF";
server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_$port ssl;
    listen [::1]:\$TEST_NGINX_RAND_PORT_$port ssl;
    ssl_certificate $Keys/$certificate.pem;
    ssl_certificate_key $Keys/$certificate.key;
    ssl_session_cache shared:s$port:1m;
    ssl_protocols TLSv1.2 TLSv1.3;
    @{[$more // '']}
    location / {
        return 200 "\$ssl_server_name \$ssl_protocol \$http_host \$ssl_client_s_dn #\$connection.\$connection_requests \$ssl_session_reused";
    }
    location /close { keepalive_timeout 0; return 200 "\$ssl_session_reused"; }
}
CONF
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => node(1, 'node') . node(2, 'forged')) if !defined $block->http_config;
    $block->set_value(config => 'location / { gateway_pass gateway; }') if !defined $block->config;
});

run_tests();

__DATA__

=== one location, one upstream block: plain to one, TLS to the next
--- gateway eval
<<"YAML"
version: 1
upstreams:
  - {name: plain, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_3}]}
  - {name: a, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: b, host: b.example, tls: {ca: "\$file://$::Keys/ca.pem", min_version: TLSv1.3}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: v6, tls: {sni: B.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: "::1", port: \$TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: plain, paths: [/plain], upstream: plain}
  - {name: a, paths: [/a], upstream: a}
  - {name: b, paths: [/b], upstream: b}
  - {name: v6, paths: [/v6], upstream: v6}
YAML
--- http_config eval
::node(1, 'node') . 'server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; return 200 "plain $scheme"; }'
--- request eval
["GET /plain", "GET /a", "GET /b", "GET /v6", "GET /plain"]
--- response_body_like eval
['^plain http$', '^a\.example TLSv1\.[23] localhost  #', '^b\.example TLSv1\.3 b\.example  #', '^b\.example TLSv1\.[23] localhost', '^plain http$']


=== a fallback to an upstream that is spoken to in another way, after failed tries
--- gateway eval
<<"YAML"
version: 1
upstreams:
  - {name: gone, nodes: [{host: 127.0.0.9, port: \$TEST_NGINX_RAND_PORT_1}], fallback: {upstream: b}}
  - {name: b, host: b.example, tls: {ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: secret, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.9, port: \$TEST_NGINX_RAND_PORT_1}], fallback: {upstream: plain}}
  - {name: plain, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_3}]}
routes:
  - {name: to-tls, paths: [/to-tls], upstream: gone}
  - {name: to-plain, paths: [/to-plain], upstream: secret}
YAML
--- http_config eval
::node(1, 'node') . 'server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; return 200 "plain $scheme $http_host"; }'
--- request eval
["GET /to-tls", "GET /to-plain", "GET /to-tls", "GET /to-plain"]
--- response_body_like eval
['^b\.example TLSv1\.[23] b\.example  #', '^plain http localhost$', '^b\.example TLSv1\.[23] b\.example  #', '^plain http localhost$']
--- no_error_log
[alert]
[emerg]


=== who shows no certificate of a trusted authority is not spoken to
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: forged, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_2}]}]
routes: [{name: forged, paths: [/forged], upstream: forged}]
YAML
--- request
GET /forged
--- error_code: 502
--- error_log
upstream SSL certificate verify error


=== without `ca` the system's authorities are those that are trusted
--- gateway
version: 1
upstreams: [{name: system, tls: {sni: a.example}, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: system, paths: [/system], upstream: system}]
--- request
GET /system
--- error_code: 502
--- error_log
upstream SSL certificate verify error


=== nor is who has the certificate of another
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: misnamed, tls: {sni: c.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: misnamed, paths: [/misnamed], upstream: misnamed}]
YAML
--- request
GET /misnamed
--- error_code: 502
--- error_log
upstream SSL certificate does not match "c.example"


=== unless the document says that anybody will do
--- gateway
version: 1
upstreams: [{name: believed, tls: {verify: false}, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}]
routes: [{name: believed, paths: [/believed], upstream: believed}]
--- request
GET /believed


=== we show a certificate where the document has one, and to nobody else
--- gateway eval
<<"YAML"
version: 1
upstreams:
  - name: us
    tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem", cert: "\$file://$::Keys/us.pem", key: "\$file://$::Keys/us.key"}
    nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]
  - {name: nobody, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: us, paths: [/us], upstream: us}
  - {name: nobody, paths: [/nobody], upstream: nobody}
YAML
--- http_config eval
::node(1, 'node', "ssl_verify_client optional; ssl_client_certificate $::Keys/ca.pem;")
--- request eval
["GET /us", "GET /nobody", "GET /us", "GET /nobody"]
--- response_body_like eval
['CN=us #', 'localhost  #', 'CN=us #', 'localhost  #']


=== a kept connection is used again for the same name and settings alone
--- gateway eval
<<"YAML"
version: 1
upstreams:
  - {name: a, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: twin, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: b, tls: {sni: b.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: lax, tls: {sni: a.example, verify: false}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: a, paths: [/a], upstream: a}
  - {name: twin, paths: [/twin], upstream: twin}
  - {name: b, paths: [/b], upstream: b}
  - {name: lax, paths: [/lax], upstream: lax}
YAML
--- request eval
["GET /a", "GET /b", "GET /lax", "GET /a", "GET /b", "GET /lax", "GET /twin"]
--- response_body_like eval
['^a\..*\.1 \.$', '^b\..*\.1 \.$', '^a\..*\.1 \.$', '^a\..*\.2 \.$', '^b\..*\.2 \.$', '^a\..*\.2 \.$', '^a\..*\.3 \.$']


=== the session of a closed connection is taken up again
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: a, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: [/close], upstream: a}]
YAML
--- request eval
["GET /close", "GET /close"]
--- response_body eval
['.', 'r']


=== an edit of the settings holds at once
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: a, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: [/a], upstream: a}]
YAML
--- request
GET /a
--- after_request eval
[sub {
    Test::More::ok(main::edit('a.example', 'c.example', sub { main::get('/a')->{status} == 502 }), 'a name that the node has not');
    Test::More::ok(main::edit('c.example', 'b.example', sub { main::get('/a')->{status} == 200 }), 'a name that it has');
}]
--- error_log
upstream SSL certificate does not match "c.example"


=== gRPC over TLS
--- skip_eval: 5: library() ne 'own'
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: u, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
--- http_config eval
<<"CONF"
server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl http2;
    ssl_certificate $::Keys/node.pem;
    ssl_certificate_key $::Keys/node.key;
    location / { return 200; add_header X-Seen "\$server_protocol \$ssl_server_name \$http_te"; add_trailer grpc-status 0; }
}
CONF
--- config
location / { gateway on; grpc_pass grpc://gateway; }
--- http2
--- request
POST /package.Service/Method
abc
--- more_headers
Content-Type: application/grpc
TE: trailers
--- response_headers
X-Seen: HTTP/2.0 a.example trailers


=== one upstream block for both: what speaks HTTP/1.1 is not handed to gRPC, nor the other way round
--- skip_eval: 20: library() ne 'own'
--- gateway eval
<<"YAML"
version: 1
upstreams: [{name: u, tls: {sni: a.example, ca: "\$file://$::Keys/ca.pem"}, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
--- http_config eval
<<"CONF"
server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl http2;
    ssl_certificate $::Keys/node.pem;
    ssl_certificate_key $::Keys/node.key;
    location / { return 200 "\$server_protocol \$connection_requests"; }
}
CONF
--- config
location / { gateway_pass gateway; }
location /grpc { gateway on; grpc_pass grpc://gateway; }
--- request eval
["GET /a", "GET /grpc/a", "GET /a", "GET /grpc/b", "GET /b"]
--- response_body eval
["HTTP/1.1 1", "HTTP/2.0 1", "HTTP/1.1 2", "HTTP/2.0 2", "HTTP/1.1 3"]


=== what cannot be meant is told at the start
--- gateway
version: 1
upstreams:
  - {name: unnamed, tls: {}, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: half, tls: {sni: a.example, cert: "$file:///none"}, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: path, tls: {sni: a.example, ca: /etc/ssl/ca.pem}, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: star, tls: {sni: "*.example"}, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: old, tls: {sni: a.example, min_version: TLSv1}, nodes: [{host: 127.0.0.1, port: 1}]}
routes: [{name: a, paths: [/a], upstream: unnamed}]
--- must_die
--- error_log
upstreams[0].nodes[0].host: is an address
upstreams[1].tls.cert
upstreams[2].tls.ca: a file is written `$file:///etc/ssl/ca.pem`
upstreams[3].tls.sni
upstreams[4].tls.min_version
