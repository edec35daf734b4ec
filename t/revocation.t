# Tokens that are refused though they are good: a list in a file, followed by itself, acting on every worker at once.

use lib 't';
use Gateway 'no_plan';

use Digest::SHA qw(sha256_hex);
use File::Temp qw(tempdir);
use POSIX qw(strftime);

our $Secret = 'kD83nf0sL2mZq9xVb4tYw7cRh1uEj6Ga';
our $List   = tempdir(CLEANUP => 1) . '/revoked.txt';
chmod 0755, $List =~ s{/[^/]*\z}{}r;

our %Claims = (iss => 'https://a', aud => 'api', exp => time() + 3600);
our $One    = jwt({%Claims, sub => 'anna', jti => 'j-1', iat => time() - 100}, $Secret);
our $Two    = jwt({%Claims, sub => 'anna', jti => 'j-2', iat => time() - 100}, $Secret);
our $New    = jwt({%Claims, sub => 'anna', jti => 'j-3', iat => time() - 1}, $Secret);

our $Document = qq(version: 1
auth:
  - name: staff
    jwt:
      issuer: https://a
      audience: api
      keys: [{alg: HS256, secret: "$Secret"}]
      revocation: {file: "$List"}
routes: [{name: r, paths: ['/*'], auth: [staff], reply: {body: let in}}]
);

# The status of each token, from every worker.
sub Test::Base::Filter::statuses {
    my ($what, @want) = @_;
    for my $token ($main::One, $main::Two, $main::New) {
        my $want = shift @want;
        my @seen = map { $_->{status} } each_worker('/', headers => "Authorization: Bearer $token");
        is_deeply(\@seen, [($want) x @seen], "$what: $want");
    }
}

# By rename, as a careful operator does.
sub list {
    my ($text, $file) = @_;
    open my $out, '>', "$file.new" or die $!;
    print $out $text;
    close $out;
    rename "$file.new", $file or die $!;
}

sub Test::Base::Filter::list { main::list($_[0], $main::List) }

list("jti j-1\n", $List);
list("jti a\nkid b\n", $List =~ s/revoked/wrong/r);

run_tests();

__DATA__

=== what is on the list is refused from the next request on, also of tokens that are known
--- gateway eval
$::Document
--- request eval
"GET /"
--- more_headers eval
"Authorization: Bearer $::Two"
--- response_body chomp
let in
--- error_log
what was revoked stays so
--- after_request eval
sub {
    statuses('the list at start', 401, 200, 200);
    list('sub anna before ' . POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time() - 10)) . "\n");
    ok(until_true(5, sub { get('/', headers => "Authorization: Bearer $::Two")->{status} == 401 }), 'in time');
    statuses('a subject, and when its tokens were issued', 401, 401, 200);
    list('token sha256:' . Digest::SHA::sha256_hex($::New) . "\n");
    ok(until_true(5, sub { get('/', headers => "Authorization: Bearer $::New")->{status} == 401 }), 'in time');
    statuses('a token by itself', 200, 200, 401);
    my $answer = get('/', headers => "Authorization: Bearer $::New");
    like($answer->{body}, qr/"code":"auth.invalid"/, 'the client is not told why');
    list("jti\n");
    ok(until_true(5, sub { errors() =~ /revoked\.txt: line 1: must be `jti ID`/ }), 'in time');
    statuses('a bad list changes nothing', 200, 200, 401);
    list("# nobody\n");
    ok(until_true(5, sub { get('/', headers => "Authorization: Bearer $::New")->{status} == 200 }), 'in time');
    statuses('an empty list', 200, 200, 200);
    list("jti j-2\n");
    reload();
    ok(until_true(5, sub { get('/', headers => "Authorization: Bearer $::Two")->{status} == 401 }), 'in time');
    statuses('after a reload', 200, 401, 200);
}


=== misconfigured: a list that is none
--- gateway eval
$::Document =~ s/revoked\.txt/wrong.txt/r
--- must_die
--- error_log eval
qr/gateway\.yaml:8: auth\[0\]\.jwt\.revocation\.file: `\S+wrong\.txt`: line 2: must be `jti ID`/
--- suppress_stderr
