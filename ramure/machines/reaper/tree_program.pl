# As tree_program.py, for machines that have perl and no Python 3.9: one parent, which ends the tree when the command has ended.
# If the parent itself is killed, the command ends, and what it had started is found by its mark alone.
use strict;
use warnings;
no warnings 'exec';
use POSIX ();

my ($daemons, $report, $first, $given, @command) = @ARGV;
my %numbers = ('x86_64' => 157, 'aarch64' => 167);
my $prctl = $numbers{ (POSIX::uname())[4] };
my $below;

sub prctl { syscall($prctl, $_[0], $_[1], 0, 0, 0) if defined $prctl }

sub environment {
    my ($path) = @_;
    open(my $file, '<:raw', $path) or die "$path: $!\n";
    local $/;
    my $content = <$file>;
    return map { /^([^=]+)=(.*)\z/s ? ($1, $2) : () } split /\0/, defined $content ? $content : '';
}

# pid => [parent, ...] of all that is below us, parents first.
sub descendants {
    my %children;
    opendir(my $proc, '/proc') or return ();
    for my $pid (grep { /^\d+$/ } readdir $proc) {
        open(my $file, '<:raw', "/proc/$pid/stat") or next;
        my $line = <$file>;
        next unless defined $line;
        my ($state, $parent) = split ' ', substr($line, rindex($line, ')') + 1);
        push @{ $children{$parent} }, $pid unless $state =~ /[ZX]/;
    }
    my @found = @{ $children{$$} || [] };
    for (my $at = 0; $at < @found; $at++) { push @found, @{ $children{ $found[$at] } || [] } }
    return @found;
}

sub quoted { my ($word) = @_; return $word if $word =~ /^[\w@%+=:,.\/-]+\z/; $word =~ s/'/'"'"'/g; return "'$word'" }

sub write_report {
    my $lines = '';
    for my $pid (@_) {
        open(my $file, '<:raw', "/proc/$pid/cmdline") or next;
        local $/;
        my $said = <$file>;
        next unless defined $said && length $said;
        $said =~ s/\0+\z//;
        my $where = readlink("/proc/$pid/cwd");
        my $line = (defined $where ? $where : '?') . "\t" . join(' ', map { quoted($_) } split /\0/, $said, -1);
        $line =~ s/[\x00-\x08\x0a-\x1f\x7f]/ /g;
        $lines .= substr($line, 0, 4000) . "\n";
    }
    return unless length $lines && length $report;
    my $before = umask 077;
    if (open(my $file, '>:raw', $report)) { print $file $lines }
    umask $before;
}

my %variables = ((length $first ? environment($first) : ()));
delete @variables{qw(RAMURE_PRIVATE RAMURE_EXEC RAMURE_AGENT_CONFIG RAMURE_TREE TMUX TMUX_PANE OLDPWD SHLVL _ LINES COLUMNS TERM PWD)};
%variables = (%variables, environment($given));
unlink $given;
for my $name (qw(TERM PWD)) { $variables{$name} = $ENV{$name} if defined $ENV{$name} && !exists $variables{$name} }

my $handled = POSIX::SigSet->new(
    POSIX::SIGTERM, POSIX::SIGHUP, POSIX::SIGINT, POSIX::SIGQUIT, POSIX::SIGCHLD, POSIX::SIGUSR1, POSIX::SIGUSR2
);
my $before = POSIX::SigSet->new;
POSIX::sigprocmask(POSIX::SIG_BLOCK, $handled, $before);
$SIG{TTOU} = $SIG{TTIN} = 'IGNORE';
prctl(36, 1);

my $pid = fork;
die "fork: $!\n" unless defined $pid;
if ($pid == 0) {
    POSIX::setpgid(0, 0);
    POSIX::tcsetpgrp(0, $$);
    prctl(1, POSIX::SIGKILL);
    $SIG{$_} = 'DEFAULT' for qw(TTOU TTIN PIPE INT);
    %ENV = %variables;
    POSIX::sigprocmask(POSIX::SIG_SETMASK, POSIX::SigSet->new);
    exec { $command[0] } @command;
    print STDERR "$command[0]: $!\n";
    POSIX::_exit(127);
}
POSIX::setpgid($pid, $pid);
my $keep = $daemons eq 'keep';
for my $name (qw(TERM HUP INT QUIT)) { $SIG{$name} = sub { kill $name, $pid } }
$SIG{USR1} = sub { kill 'KILL', $pid };
$SIG{USR2} = sub { $keep = 0; kill 'KILL', $pid };
$SIG{CHLD} = sub { };

my $code;
my $open = POSIX::SigSet->new;
while (!defined $code) {
    POSIX::sigsuspend($open);
    while ((my $child = waitpid(-1, POSIX::WNOHANG() | POSIX::WUNTRACED())) > 0) {
        my $status = $?;
        next if $child != $pid;
        # perl says 0 both of one that has stopped and of one that has exited with 0; the former is still there.
        if ($status == 0 && kill 0, $pid) { POSIX::tcsetpgrp(0, $pid); kill 'CONT', -$pid }
        else { $code = $status & 127 ? 128 + ($status & 127) : $status >> 8 }
    }
}
if (!$keep) {
    my @left = descendants();
    write_report(@left) if @left;
    my $until = time + 3;
    while (time <= $until) {
        kill 'KILL', @left if @left;
        my $child;
        do { $child = waitpid(-1, POSIX::WNOHANG()) } while ($child > 0);
        last if $child < 0;
        select undef, undef, undef, 0.002;
        @left = descendants();
    }
}
POSIX::_exit($code);
