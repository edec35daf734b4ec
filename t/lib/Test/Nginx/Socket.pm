package Test::Nginx::Socket;

use strict;
use warnings;

use parent 'Test::Base';

use IO::Select;
use IO::Socket::INET;
use List::Util qw(min);
use Test::More ();
use Test::Nginx::Util;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    run_tests repeat_each workers worker_connections master_on master_off master_process_enabled log_level timeout
    server_name server_addr server_port server_port_for_client server_root html_dir config_preamble
    no_long_string no_root_location no_shuffle use_hup no_nginx_manager check_accum_error_log env_to_nginx
    add_block_preprocessor add_cleanup_handler add_test_cleanup_handler add_response_body_check bail_out
);

$Test::Nginx::Util::SendAndCheck  = \&send_and_check;
$Test::Nginx::Util::CheckErrorLog = \&check_error_log;

my @body_checks;

sub add_response_body_check ($) { push @body_checks, shift }

sub send_and_check {
    my ($block, $round) = @_;

    my $name     = $block->name;
    my @requests = requests($block);
    my $timeout  = parse_time($block->timeout) // timeout();

    # Pipelined requests are one text with several answers; else it is one answer each.
    my $answers = $block->pipelined_requests ? @{$block->pipelined_requests} : 1;
    my $many    = $block->pipelined_requests || @requests > 1;
    my $index   = 0;

    if (defined $block->curl) {
        Test::More::diag(join ' ', map { /[^-\w.:\/=]/ ? "'" . s/'/'\\''/gr . "'" : $_ } curl($block, $requests[0]));
    }

    for my $request (@requests) {
        my $raw = defined use_http2($block) ? send_by_curl($block, $request) : send_request($block, $request, $timeout);
        my $head = $request->[0]{value} =~ /^\s*HEAD\s/;
        Test::More::diag("response: $raw") if $Verbose;

        for my $answer (1 .. $answers) {
            my $response;

            if (!defined $block->ignore_response) {
                $response = parse_response($block, $raw, $head);
                $raw = $response->{left};
                check_response($block, $response, $many ? $index : undef, $round);
            }

            my $last = $answer == $answers && $request == $requests[-1];
            sleep $block->wait if $block->wait;
            check_error_log($block, $round);
            check_access_log($block, $round) if !defined $block->ignore_response;
            $index++;
        }

        if ($answers == 1 && length($raw // '') && !defined $block->ignore_response) {
            warn "WARNING: $name - unexpected bytes after the response: ", printable($raw), "\n";
        }
    }
}

# Requests: a list of lists of {value, delay_before}: what is written in one go, and how long to wait before.

sub requests {
    my $block = shift;
    my $name  = $block->name;

    if (defined(my $raw = $block->raw_request)) {
        return [map { {value => $_} } ref $raw eq 'ARRAY' ? @$raw : $raw];
    }

    if (my $pipelined = $block->pipelined_requests) {
        ref $pipelined eq 'ARRAY' or bail_out("$name - pipelined_requests must be an array");
        my @texts = map { expand_env_in_text($_, $name, $RandPorts) } @$pipelined;
        my $text = join '', map {
            build($block, $_, $_ == $#texts ? 'close' : 'keep-alive', $texts[$_])->[0]{value}
        } 0 .. $#texts;
        return [{value => $text}];
    }

    my $request = $block->request;
    defined $request or bail_out("$name - no request");

    if (!ref $request) {
        # Comments and blank space before the request line.
        1 while $request =~ s/^\s*#[^\n]+\s+|^\s+//;
        return build($block, 0, 'close', $request);
    }

    ref $request eq 'ARRAY' or bail_out("$name - request must be a string or an array");
    return map { build($block, $_, 'close', ref $request->[$_] eq 'ARRAY' ? @{$request->[$_]} : $request->[$_]) }
        0 .. $#$request;
}

# Completes a request that may come in several packets: version, Host, Connection, the block's headers, Content-Length.
sub build {
    my ($block, $index, $connection, @packets) = @_;

    @packets = map { ref ? {%$_} : {value => $_} } @packets;
    my $text = join '', map { $_->{value} } @packets;

    my ($before, $method, $gap1, $url, $gap2, $protocol, $rest, $body) =
        $text =~ /^(\s*)(\S+)([ ]*)([^\s]*)([ ]*)([^\s]*)([ \r]*(?:\n|\z))(.*)\z/s
        or bail_out($block->name . " - bad request line: $text");

    my ($headers, $chunked) = more_headers($block, $index);
    my $sent_body = $body;
    my $length = '';
    if (!$chunked && $body ne '' && $headers !~ /^Content-Length:/m) {
        $sent_body =~ s/^\s+|\s+$//g;
        $length = 'Content-Length: ' . length($sent_body) . "\r\n";
    }
    my $host = $headers =~ /^Host:/mi ? '' : "Host: $ServerName\r\n";
    my $conn = $headers =~ /^Connection/mi ? '' : "Connection: $connection\r\n";

    # What stood where, and what stands there now: cuts between packets move along.
    my @pieces = (
        [$before, ''], [$method, "$method "], [$gap1, ''], [$url, ($url eq '' ? '/' : $url) . ' '], [$gap2, ''],
        [$protocol, ($protocol eq '' ? 'HTTP/1.1' : $protocol) . "\r\n"],
        [$rest, "$host$conn$headers$length\r\n"], [$body, $sent_body],
    );
    my $whole = join '', map { $_->[1] } @pieces;

    my ($end, $cut) = (0, 0);
    for my $packet (@packets) {
        $end += length $packet->{value};
        my $to = $packet == $packets[-1] ? length $whole : moved($end, @pieces);
        $packet->{value} = substr $whole, $cut, $to - $cut;
        $cut = $to;
    }

    return \@packets;
}

sub moved {
    my ($offset, @pieces) = @_;
    my ($from, $to) = (0, 0);
    for (@pieces) {
        my ($old, $new) = map { length } @$_;
        return $to + min($offset - $from, $new) if $offset < $from + $old;
        $from += $old;
        $to   += $new;
    }
    return $to;
}

sub more_headers {
    my ($block, $index) = @_;

    my $headers = $block->more_headers // '';
    if (ref $headers eq 'ARRAY') {
        $headers = $headers->[$index] // bail_out($block->name . " - no more_headers for request $index");
    }

    my ($text, $chunked) = ('', 0);
    for (grep { !/^\s*#/ } split /\n+/, $headers) {
        my ($key, $value) = split /:\s*/, $_, 2;
        $value //= '';
        $value =~ s/\r\z//;
        $chunked = 1 if lc $key eq 'transfer-encoding' && $value eq 'chunked';
        $text .= "$key: $value\r\n";
    }
    return ($text, $chunked);
}

# Over the wire.

sub send_request {
    my ($block, $request, $timeout) = @_;
    my $name = $block->name;

    my $socket = connection($block, $timeout) or return fail_hard("$name - cannot connect: $!");
    $socket->blocking(0);
    local $SIG{PIPE} = 'IGNORE';

    my @packets  = @$request;
    my $out      = (shift @packets)->{value};
    my $response = '';
    my $reading  = IO::Select->new($socket);
    my $writing  = IO::Select->new($socket);

    while (1) {
        my ($readable, $writable) = IO::Select->select($reading, $writing, undef, $timeout);

        if (!defined $readable) {
            fail_hard("ERROR: client socket timed out - $name") if !defined $block->abort;
            last;
        }

        if (@$readable) {
            my $count = sysread $socket, $response, 65536, length $response;
            last if defined $count && $count == 0;
            if (!defined $count && !$!{EAGAIN} && !$!{EINTR}) {
                warn "WARNING: $name - cannot read the response: $!\n";
                last;
            }
        }

        next if !@$writable;

        if ($out ne '') {
            my $count = syswrite $socket, $out;
            if (defined $count) {
                substr $out, 0, $count, '';
            }
            elsif (!$!{EAGAIN} && !$!{EINTR}) {
                # The server has closed; what it said before may still be there to read.
                warn "write failed: $!\n";
                $out = '';
                @packets = ();
            }
        }
        elsif (my $next = shift @packets) {
            my $delay = $next->{delay_before} // $block->raw_request_middle_delay;
            sleep $delay if $delay;
            $out = $next->{value};
        }
        else {
            $writing->remove($socket);
            if (defined(my $how = $block->shutdown)) {
                shutdown $socket, $how eq '' ? 1 : $how;
            }
        }
    }

    close $socket;
    return $response;
}

sub connection {
    my ($block, $timeout) = @_;
    my $socket;
    for my $try (1 .. 50) {
        $socket = IO::Socket::INET->new(
            PeerAddr => $block->server_addr_for_client // $ServerAddr,
            PeerPort => $ServerPortForClient,
            Proto    => 'tcp',
            Timeout  => $timeout,
        ) and last;
        sleep 0.05;
    }
    return $socket;
}

sub send_by_curl {
    my ($block, $request) = @_;
    my $name = $block->name;

    my @command = curl($block, $request);
    open my $out, '-|:raw', @command or return fail_hard("$name - curl: $!");
    local $/;
    my $response = <$out> // '';
    close $out;

    fail_hard("$name - curl failed with " . ($? >> 8)) if $response eq '' && !defined $block->abort;
    return $response;
}

sub curl {
    my ($block, $request) = @_;

    my $text = join '', map { $_->{value} } @$request;
    my ($line, $headers, $body) = $text =~ /\A([^\r\n]*)\r\n((?:[^\r\n]+\r\n)*)\r\n(.*)\z/s
        or bail_out($block->name . ' - a request that curl cannot send');
    my ($method, $uri, $protocol) = split ' ', $line;

    # Nothing that the block did not ask for.
    my @command = qw(curl -i -sS --path-as-is -H User-Agent: -H Accept: -H Host:);
    push @command, '--http2-prior-knowledge' if defined $block->http2;
    push @command, '-0' if $protocol eq 'HTTP/1.0';
    push @command, $method eq 'HEAD' ? '-I' : $method eq 'GET' ? () : ('-X', $method);

    my @headers = grep { !/^Connection\s*:/i && length } split /\r?\n/, $headers;
    push @command, map { ('-H', $_) } @headers;

    if ($body ne '') {
        push @command, '-H', 'Content-Type:' if !grep { /^Content-Type\s*:/i } @headers;
        my $file = html_dir() . '/curl.data.bin';
        Test::Nginx::Util::write_file($file, $body);
        push @command, '--data-binary', "\@$file";
    }

    my $timeout = parse_time($block->timeout) // timeout();
    push @command, '--connect-timeout', $timeout, '--max-time', $timeout;
    push @command, split ' ', $block->curl_options if defined $block->curl_options;
    my $address = $block->server_addr_for_client // $ServerAddr;
    return (@command, ($block->curl_protocol // 'http') . "://$address:$ServerPortForClient$uri");
}

# Answers: {code, head (the raw text), headers, body, left (bytes after it)}.

sub parse_response {
    my ($block, $raw, $head_request) = @_;
    $raw //= '';

    return {code => 200, head => '', headers => {}, body => $raw, left => ''} if defined $block->http09;

    # A 100 that came first is no answer; the interim ones stay in `head` for those who look for them.
    my ($head, $rest) = $raw =~ /\A(.*?\r\n)\r\n(.*)\z/s ? ($1, $2) : ($raw, '');
    my ($status, @lines) = split /\r?\n/, $head;
    my (undef, $code) = split ' ', $status // '';

    my %headers;
    for (@lines) {
        my ($key, $value) = /^([^\s:]+)[ \t]*:\s*(.*?)\s*$/ or next;
        push @{$headers{lc $key}}, $value;
    }

    my %response = (code => $code // '', head => $head, headers => \%headers, body => $rest, left => '');
    $response{code} = '' if $response{code} !~ /^\d+$/;
    return \%response if $response{code} =~ /^(?:101|304)$/;

    my $length = $headers{'content-length'} && $headers{'content-length'}[0];

    if (($headers{'transfer-encoding'}[0] // '') eq 'chunked') {
        @response{qw(body left)} = dechunk($block, $rest, @{$headers{trailer} || []});
    }
    elsif (defined $length && $length =~ /^\d+$/) {
        if (length $rest < $length) {
            warn 'WARNING: ', $block->name, " - response body truncated: $length expected, but got ", length $rest, "\n"
                if !$head_request;
        }
        else {
            @response{qw(body left)} = (substr($rest, 0, $length), substr($rest, $length));
        }
    }

    return \%response;
}

# RFC 9112, 7.1: anything else than well-formed chunks up to the last one fails the test.
sub dechunk {
    my ($block, $raw, @trailers) = @_;
    my $name = $block->name;
    my $body = '';

    while ($raw =~ s/\A[ \t]*([A-Fa-f0-9]+)[ \t]*(?:;[^\r\n]*)?\r\n//) {
        my $size = hex $1;
        if ($size == 0) {
            return ($body, $raw) if $raw =~ s/\A(?:[^\r\n:]+:[^\r\n]*\r\n){${\scalar @trailers}}\r\n//;
            fail_hard("$name - no end after the last chunk: " . printable($raw));
            return ($body, '');
        }
        if (length $raw < $size + 2 || substr($raw, $size, 2) ne "\r\n") {
            fail_hard("$name - a chunk is cut short");
            return ($body, '');
        }
        $body .= substr $raw, 0, $size;
        substr $raw, 0, $size + 2, '';
    }

    fail_hard("$name - no last chunk: " . printable($raw));
    return ($body, '');
}

sub header {
    my ($response, $name) = @_;
    return join ', ', @{$response->{headers}{lc $name} || []};
}

# Checks of an answer. `$index` is undefined unless there are several, and then each section must be an array.

sub check_response {
    my ($block, $response, $index, $round) = @_;
    my ($name, $at) = ($block->name, $index // 0);
    my $want = sub { of($block, shift, $index) };
    my $body = $response->{body};

    if (defined $block->error_code_like) {
        my $pattern = $want->('error_code_like');
        Test::More::like($response->{code}, qr/$pattern/sm, "$name - status code ok");
    }
    else {
        my $code = defined $block->error_code ? $want->('error_code') : 200;
        Test::More::is($response->{code}, $code, "$name - status code ok");
    }

    if (defined $block->raw_response_headers_like) {
        my $pattern = $want->('raw_response_headers_like');
        Test::More::like($response->{head}, qr/$pattern/s, "$name - raw resp headers like");
    }
    if (defined $block->raw_response_headers_unlike) {
        my $pattern = $want->('raw_response_headers_unlike');
        Test::More::unlike($response->{head}, qr/$pattern/s, "$name - raw resp headers unlike");
    }

    if (defined $block->response_headers) {
        my $headers = header_table($want->('response_headers'));
        for my $key (sort keys %$headers) {
            if (!defined $headers->{$key}) {
                Test::More::unlike($response->{head}, qr/^\s*\Q$key\E\s*:/mi,
                    "$name - header $key not present in the raw headers");
                next;
            }
            Test::More::is(header($response, $key), with_port($headers->{$key}), "$name - header $key ok");
        }
    }
    elsif (defined $block->response_headers_like) {
        my $headers = header_table($want->('response_headers_like'));
        for my $key (sort keys %$headers) {
            Test::More::like(header($response, $key), qr/^$headers->{$key}$/, "$name - header $key like ok");
        }
    }

    $body = filtered($block, $body, $at) if defined $block->response_body_filters;

    if (defined $block->response_body) {
        my $expected = $want->('response_body');
        my $label = "$name - response_body - %s (repeated req $round, req $at)";
        if (ref $expected) {
            Test::More::like($body, $expected, sprintf $label, 'like');
        }
        else {
            $expected = expand_env_in_text(with_port($expected), $name, $RandPorts);
            Test::More::is($body, $expected, sprintf $label, 'response is expected');
        }
    }
    elsif (defined $block->response_body_like) {
        my $pattern = with_port($want->('response_body_like'));
        Test::More::like($body, qr/$pattern/s, "$name - response_body_like - response is expected");
    }
    elsif (defined $block->response_body_unlike) {
        my $pattern = with_port($want->('response_body_unlike'));
        Test::More::unlike($body, qr/$pattern/s, "$name - response_body_unlike - response is expected");
    }

    $_->($block, $body, $at, $round) for @body_checks;
}

sub of {
    my ($block, $section, $index) = @_;
    my $value = $block->$section;
    return ref $value eq 'ARRAY' ? $value->[0] : $value if !defined $index;
    return $value->[$index] if ref $value eq 'ARRAY';
    bail_out($block->name . " - several requests: $section must be an array too");
}

sub header_table {
    my %table;
    for (split /\n/, shift) {
        s/^\s+|\s+$//g;
        if (s/^!\s*//) {
            $table{$_} = undef;
        }
        elsif ($_ ne '') {
            my ($key, $value) = split /\s*:\s*/, $_, 2;
            $table{$key} = $value;
        }
    }
    return \%table;
}

sub with_port {
    my $text = shift;
    $text =~ s/\$ServerPortForClient\b/$ServerPortForClient/g;
    $text =~ s/\$ServerPort\b/$ServerPort/g;
    return $text;
}

sub filtered {
    my ($block, $body, $index) = @_;
    my $filters = $block->response_body_filters;
    $filters = [grep { length } split /\s+/, $filters] if !ref $filters;
    $filters = [$filters] if ref $filters eq 'CODE';
    $filters = $filters->[$index] if ref $filters->[0] eq 'ARRAY';

    my %named = (uc => sub { uc shift }, lc => sub { lc shift }, length => sub { length shift },
        md5_hex => sub { require Digest::MD5; Digest::MD5::md5_hex(shift) },
        sha1_hex => sub { require Digest::SHA; Digest::SHA::sha1_hex(shift) });
    for my $filter (@$filters) {
        my $code = ref $filter ? $filter : $named{$filter} || bail_out($block->name . " - unknown filter $filter");
        $body = $code->($body);
    }
    return $body;
}

# Checks of the logs: each looks at what was written since the last look.

sub check_error_log {
    my ($block, $round) = @_;
    my $name = $block->name;
    my $lines = error_log_data();

    if (defined(my $pattern = $block->grep_error_log)) {
        defined $block->grep_error_log_out or bail_out("$name - grep_error_log without grep_error_log_out");
        $pattern = $pattern->[$round] if ref $pattern eq 'ARRAY';
        my $expected = $block->grep_error_log_out;
        $expected = $expected->[$round] if ref $expected eq 'ARRAY';
        $pattern = qr/\Q$pattern\E/ if !ref $pattern;
        my $found = join '', map { /$pattern/ && $& !~ /\n/ ? "$&\n" : () } @$lines;
        my $label = "$name - grep_error_log_out (req $round)";
        ref $expected ? Test::More::like($found, $expected, $label) : Test::More::is($found,
            expand_env_in_text($expected, $name, $RandPorts), $label);
    }

    must_log($name, 'error.log', scalar $block->error_log, $lines, $round);
    must_not_log($name, 'error.log', scalar $block->no_error_log, $lines, $round);

    # Never silent about what nobody asked for.
    my $asked = join ' ', map { ref $_ eq 'ARRAY' ? @$_ : $_ // '' }
        map { scalar $block->$_ } qw(error_log no_error_log);
    for my $level (grep { index($asked, "[$_") < 0 } qw(alert crit emerg)) {
        warn "WARNING: $name - ", printable($_), "\n" for grep { /\[$level\]/ } @$lines;
    }
    fail_hard("$name - $_") for grep { /\bAssertion .*?failed\b/ } @$lines;
}

sub check_access_log {
    my ($block, $round) = @_;
    return if !defined $block->access_log && !defined $block->no_access_log;
    my $lines = access_log_data();
    must_log($block->name, 'access.log', scalar $block->access_log, $lines, $round);
    must_not_log($block->name, 'access.log', scalar $block->no_access_log, $lines, $round);
}

sub must_log {
    my ($name, $file, $patterns, $lines, $round) = @_;
    for my $pattern (patterns($patterns)) {
        Test::More::ok(scalar(grep { matches($_, $pattern) } @$lines),
            "$name - pattern \"$pattern\" matches a line in $file (req $round)");
    }
}

sub must_not_log {
    my ($name, $file, $patterns, $lines, $round) = @_;
    for my $pattern (patterns($patterns)) {
        my @found = grep { matches($_, $pattern) } @$lines;
        Test::More::ok(!@found, "$name - pattern \"$pattern\" does not match a line in $file (req $round)")
            or Test::More::diag("  $found[0]");
    }
}

sub patterns {
    my $patterns = shift;
    return if !defined $patterns;
    return grep { defined } ref $patterns eq 'ARRAY' ? @$patterns : ref $patterns ? $patterns
        : split /\n+/, $patterns;
}

sub matches {
    my ($line, $pattern) = @_;
    return ref $pattern ? $line =~ /$pattern/ : index($line, $pattern) >= 0;
}

# A failure beyond the plan.
sub fail_hard {
    Test::More::fail(shift);
    return '';
}

sub printable {
    my $text = shift;
    chomp $text;
    $text =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
    return $text;
}

1;

__END__

=head1 NAME

Test::Nginx::Socket - runs test files in Test::Nginx's data format where OpenResty's library is not installed

=head1 DESCRIPTION

OpenResty's own Test::Nginx::Socket is the reference, and F<t/Gateway.pm> prefers it wherever it is installed. This
package, written from its documentation and behaviour on Debian's Test::Base, lets the same files run everywhere else.

Sections: C<main_config>, C<http_config>, C<config>, C<post_main_config>, C<user_files>, C<post_setup_server_root>,
C<init>, C<server_name>, C<log_level>, C<error_log_file>, C<suppress_stderr>, C<must_die>; C<request> (text, array,
packets), C<pipelined_requests>, C<raw_request>, C<raw_request_middle_delay>, C<more_headers>, C<http2>,
C<curl_options>, C<curl>, C<timeout>, C<abort>, C<shutdown>, C<wait>, C<ignore_response>, C<http09>; C<error_code>,
C<error_code_like>, C<response_headers>, C<response_headers_like>, C<raw_response_headers_like>, C<..._unlike>,
C<response_body>, C<response_body_like>, C<..._unlike>, C<response_body_filters>, C<error_log>, C<no_error_log>,
C<grep_error_log>, C<grep_error_log_out>, C<access_log>, C<no_access_log>; C<skip_nginx>, C<skip_eval>; C<ONLY>,
C<SKIP>, C<LAST>.

Not here: C<use_hup>, TCP and UDP mock servers, stap, valgrind, HTTP/3, C<shutdown_error_log>, C<todo>.

Differences: a server that does not start ends the file, not the whole run; a port that is taken is replaced by a free
one.

=cut
