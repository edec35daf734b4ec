# The runner itself, on plain nginx: it reads the format, and a wrong expectation fails.

use lib 't';
use Gateway 'plain', 'no_plan';

use File::Temp qw(tempdir);

# A runner that cannot fail proves nothing: what each section expects, once right and once wrong.
my @sections = (
    ['error_code',            '--- error_code: 200',                       '--- error_code: 201'],
    ['default status',        '',                                          "--- request\nGET /none"],
    ['response_body',         "--- response_body\na",                      "--- response_body\nb"],
    ['trailing newline',      "--- response_body\na",                      "--- response_body chomp\na"],
    ['response_body_like',    '--- response_body_like: ^a$',               '--- response_body_like: ^b$'],
    ['response_body_unlike',  '--- response_body_unlike: b',               '--- response_body_unlike: a'],
    ['response_headers',      "--- response_headers\nX-One: 1",            "--- response_headers\nX-One: 2"],
    ['absent header',         "--- response_headers\n!X-Two",              "--- response_headers\n!X-One"],
    ['response_headers_like', "--- response_headers_like\nX-One: \\d",     "--- response_headers_like\nX-One: [2-9]"],
    ['raw_response_headers',  '--- raw_response_headers_like: X-One: 1',   '--- raw_response_headers_like: X-Two'],
    ['error_log',             "--- request\nGET /none\n--- error_code: 404\n--- error_log\nNo such file",
                              "--- request\nGET /none\n--- error_code: 404\n--- error_log\nnever said"],
    ['no_error_log',          "--- no_error_log\n[error]",
                              "--- request\nGET /none\n--- error_code: 404\n--- no_error_log\n[error]"],
    ['grep_error_log',        "--- grep_error_log: never said\n--- grep_error_log_out",
                              "--- grep_error_log: never said\n--- grep_error_log_out\nnever said"],
    ['access_log',            "--- access_log\nGET /a",                    "--- access_log\nGET /b"],
    ['no_access_log',         "--- no_access_log\nGET /b",                 "--- no_access_log\nGET /a"],
    ['must_die',              "--- config\nnonsense;\n--- must_die\n--- error_log\nunknown directive", '--- must_die'],
    ['must_die with a code',  "--- config\nnonsense;\n--- must_die: 1",    "--- config\nnonsense;\n--- must_die: 2"],
    ['a truncated chunk',     '',                                          "--- request\nGET /chunk"],
    ['a silent server',       '',                                          "--- request\nGET /slow\n--- timeout: 200ms"],
    ['a broken config',       '',                                          "--- config\nnonsense;"],
    ['several answers',       "--- request eval\n['GET /a', 'GET /none']\n--- error_code eval\n[200, 404]",
                              "--- request eval\n['GET /a', 'GET /none']\n--- error_code eval\n[200, 200]"],
    ['http2',                 "--- http2\n--- response_body\na",           "--- http2\n--- response_body\nb"],
);

# Two that OpenResty's library leaves to its caller or to newer versions of nginx.
@sections = grep { $_->[0] !~ /^(?:http2|a broken config)$/ } @sections if library() ne 'own';

for (@sections) {
    my ($section, @expectations) = @$_;
    my ($right, $wrong) = map { passes($_) } @expectations;
    ok($right->{ok}, "$section: a right expectation passes") or diag($right->{output});
    ok(!$wrong->{ok}, "$section: a wrong expectation fails") or diag($wrong->{output});
}

# Runs a file with one block in a process of its own.
sub passes {
    my $expectation = shift;
    my $dir = tempdir(CLEANUP => 1);
    my $request = $expectation =~ /^--- request/m ? '' : "--- request\nGET /a\n";
    my $config = $expectation =~ /^--- config/m ? '' : <<'CONF';
--- config
location /a { add_header X-One 1; return 200 "a\n"; }
location /none { root html; }
location /chunk { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
location /slow { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
CONF

    # A server that takes connections and says too little.
    my $silent = <<'CONF';
--- init
$main::silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $RandPorts->{TEST_NGINX_RAND_PORT_1}, Listen => 5) or die;
if (!fork) {
    alarm 5;
    my $client = $main::silent->accept;
    my $line = <$client>;
    print $client "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n5\r\nab" if $line =~ /chunk/;
    $client->flush;
    sleep 3 if $line =~ /slow/;
    POSIX::_exit(0);
}
close $main::silent;
CONF
    $silent = '' if $expectation !~ m{/chunk|/slow};

    open my $out, '>', "$dir/one.t" or die;
    print $out "use lib 't';\nuse Gateway 'plain', 'no_plan';\nrun_tests();\n__DATA__\n=== one\n$config$silent$request$expectation\n";
    close $out;

    local $ENV{TEST_NGINX_SERVER_PORT};
    delete $ENV{TEST_NGINX_SERVER_PORT};
    local $ENV{TEST_NGINX_SERVROOT} = "$dir/servroot";
    my $output = qx{timeout 60 $^X $dir/one.t 2>&1};
    # As prove judges.
    return {ok => $? == 0 && $output !~ /^not ok/m, output => $output};
}

run_tests();

__DATA__

=== request: the default is HTTP/1.1 and closes
--- config
location /a { return 200 "$request_method $server_protocol $http_host $http_connection\n"; }
--- request
GET /a
--- response_body
GET HTTP/1.1 localhost close
--- no_error_log
[error]


=== request: comments, a body, headers
--- config
location /a {
    proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/$http_x_mark?$content_length;
}
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    return 200 "$request_method $request_uri\n";
}
--- request
# a comment
POST /a
hello
--- more_headers
X-Mark: m1
# not sent: X-Mark: m2
--- response_body
POST /m1?5


=== request: an explicit version
--- config
location /a { return 200 "$server_protocol\n"; }
--- request
GET /a HTTP/1.0
--- response_body
HTTP/1.0


=== requests: one expectation for each
--- config
location /a { return 200 "a$http_x_n\n"; }
location /b { return 404 "b$http_x_n\n"; }
--- request eval
["GET /a", "GET /b", "GET /a"]
--- more_headers eval
["X-N: 1", "X-N: 2", "X-N: 3"]
--- error_code eval
[200, 404, 200]
--- response_body eval
["a1\n", "b2\n", "a3\n"]


=== requests: packets with a pause
--- config
location /a { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    return 200 "$content_length\n";
}
--- request eval
[["PO", "ST /a\nhel", {value => "lo wor", delay_before => 0.05}, "ld"]]
--- response_body
11


=== pipelined
--- config
location /a { return 200 "a\n"; }
location /b { return 200 "b\n"; }
--- pipelined_requests eval
["GET /a", "GET /b", "GET /a"]
--- response_body eval
["a\n", "b\n", "a\n"]


=== raw_request
--- config
location /a { return 200 "$http_x_raw\n"; }
--- raw_request eval
["GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", "X-Raw: yes\r\n\r\n"]
--- raw_request_middle_delay: 0.02
--- response_body
yes


=== chunked answers are put together
--- config
location /a { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/one.txt; sub_filter b BBB; sub_filter_once off; sub_filter_types *; }
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { root html; } }
--- user_files
>>> one.txt
abc
abc
--- request
GET /a
--- response_headers
Transfer-Encoding: chunked
!Content-Length
--- response_body
aBBBc
aBBBc


=== headers: present, absent, by pattern
--- config
location /a { add_header X-A "1, 2"; return 200 ok; }
--- request
GET /a
--- response_headers
X-A: 1, 2
Content-Type: text/plain
!X-B
--- raw_response_headers_like: X-A: 1, 2\r\n
--- response_body chomp
ok


=== HEAD has no body
--- config
location /a { return 200 "abc"; }
--- request
HEAD /a
--- response_headers
Content-Length: 3
--- response_body chomp


=== eval, a regex, and status patterns
--- config
location /a { return 201 "12 apples"; }
--- request
GET /a
--- error_code_like: ^2
--- response_body eval
qr/^\d+ apples$/


=== error_log, by line and by regex
--- config
location /a { root html; }
--- request
GET /a
--- error_code: 404
--- response_body_like: 404 Not Found
--- error_log eval
["No such file or directory", qr/html\/a"? failed/]
--- no_error_log
[alert]
[crit]


=== each answer has its own lines of the log
--- config
location /one { root html; }
location /two { root html; }
--- request eval
["GET /one", "GET /two"]
--- error_code eval
[404, 404]
--- grep_error_log eval
qr{html/\w+}
--- grep_error_log_out eval
qr{^html/(?:one|two)\n$}


=== a broken configuration
--- config
location /a { nonsense; }
--- must_die
--- error_log
unknown directive "nonsense"
--- suppress_stderr


=== files, ports and the server's folder
--- config
location /a { alias $TEST_NGINX_SERVER_ROOT/html/sub/; }
location /port { return 200 "$server_port $TEST_NGINX_SERVER_PORT\n"; }
--- user_files
>>> sub/file.txt
port $TEST_NGINX_SERVER_PORT
--- request eval
["GET /a/file.txt", "GET /port"]
--- response_body eval
["port \$TEST_NGINX_SERVER_PORT\n", "\$ServerPort \$ServerPort\n"]


=== the access log
--- config
location /a { return 204; }
--- request
GET /a?x
--- error_code: 204
--- access_log
GET /a?x HTTP/1.1" 204
--- no_access_log
GET /b


=== an answer that is not looked at, and a client that leaves
--- config
location /a { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { limit_rate 10; root html; } }
--- user_files eval
[["a", "x" x 4000]]
--- request
GET /a
--- timeout: 100ms
--- abort
--- ignore_response
--- no_error_log
[alert]


=== two workers under a master, and a reload
--- config
location /pid { return 200 "$pid\n"; }
--- request eval
["GET /pid", "GET /pid"]
--- after_request eval
my $seen;
[
    sub {
        ($seen) = shift =~ /(\d+)/;
        # One that was just forked has not got its title yet.
        ok(until_true(5, sub { my @pids = worker_pids(); @pids == 2 }), 'two workers');
        ok(scalar(grep { $_ == $seen } worker_pids()), 'one of them answered');
        ok(reload(), 'reload');
    },
    sub {
        my ($pid) = shift =~ /(\d+)/;
        isnt($pid, $seen, 'a new worker answers after the reload');
        is(burst(40, '/pid', connections => 4)->{200}, 40, 'burst');
        is(get('/pid')->{status}, 200, 'get');
    },
]
--- response_body_like eval
['^\d+$', '^\d+$']


=== skipped for this nginx
--- skip_nginx: 2: > 1.0.0
--- config
--- request
GET /
--- error_code: 999
