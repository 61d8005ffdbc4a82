package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// The files of a running server. Scripts for the original look for these names.
const (
	pidFile = "twistd.pid"
	logFile = "twistd.log"
)

// readyFile is the environment variable with the number of the file descriptor to which
// a daemon writes when it is ready.
const readyFile = "FLAPPSERVER_READY_FD"

const stopDelay = 15 * time.Second // from SIGTERM to SIGKILL, as in the original

// startOptions are the options of start and restart. The original passes what follows
// BASEDIR to twistd; the options of twistd that scripts use are supported.
type startOptions struct {
	foreground bool
	logfile    string
}

func (o *startOptions) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay in the foreground and log to stderr")
	cmd.Flags().BoolVarP(&o.foreground, "nodaemon", "n", false, "the same; the name that twistd has for it")
	cmd.Flags().StringVarP(&o.logfile, "logfile", "l", "", "the log, a `FILE` in BASEDIR (default "+logFile+"; with --foreground stderr)")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return cli.Usagef("%w; the supported options of twistd are --nodaemon and --logfile", err)
	})
}

// start runs the server of a directory.
func (o *startOptions) start(cmd *cobra.Command, path string) error {
	if !o.foreground {
		return launch(cmd, path, cmp.Or(o.logfile, logFile))
	}
	if o.logfile == "" || o.logfile == "-" {
		return serve(cmd, path, cmd.ErrOrStderr())
	}
	log, err := openLog(path, o.logfile)
	if err != nil {
		return err
	}
	defer log.Close()
	return serve(cmd, path, log)
}

// openLog opens a log whose name is relative to the server's directory.
func openLog(path, name string) (*os.File, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(path, name)
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func newStartCommand() *cobra.Command {
	var opts startOptions
	cmd := &cobra.Command{
		Use:   "start [options] BASEDIR",
		Short: "Run a server, by default in the background",
		Long: "start returns when clients can connect. The server's log is BASEDIR/twistd.log.\n\n" +
			"With --foreground, for systemd and containers, it runs until SIGTERM or Ctrl-C\n" +
			"and logs to stderr.",
		Example: "  flappserver start fs\n" +
			"  flappserver start --foreground /var/lib/flappserver",
		Args: exactly("BASEDIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return opts.start(cmd, args[0]) },
	}
	opts.add(cmd)
	return cmd
}

func newStopCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "stop [-q] BASEDIR",
		Short:   "Stop a running server; exit code 2 if there is none",
		Example: "  flappserver stop fs",
		Args:    exactly("BASEDIR"),
		RunE:    func(cmd *cobra.Command, args []string) error { return stop(cmd, args[0], quiet) },
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func newRestartCommand() *cobra.Command {
	var opts startOptions
	cmd := &cobra.Command{
		Use:     "restart [options] BASEDIR",
		Short:   "Stop a server if it runs, then start it",
		Example: "  flappserver restart fs",
		Args:    exactly("BASEDIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := stop(cmd, args[0], true)
			if _, notRunning := errors.AsType[cli.ExitCode](err); err != nil && !notRunning {
				return err
			}
			return opts.start(cmd, args[0])
		},
	}
	opts.add(cmd)
	return cmd
}

// serve runs the server in this process until the context is done.
func serve(cmd *cobra.Command, path string, log io.Writer) error {
	dir, err := appserver.OpenDir(path)
	if err != nil {
		return err
	}
	if pid, err := running(path); err != nil {
		return err
	} else if pid != 0 {
		return fmt.Errorf("another server is running in %s, PID %d", path, pid)
	}
	mask, ok, err := dir.Umask()
	if err != nil {
		return err
	}
	if ok {
		syscall.Umask(mask)
	}
	ready, err := readySignal()
	if err != nil {
		return err
	}
	pid := filepath.Join(path, pidFile)
	if err := durable.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	defer os.Remove(pid)
	return appserver.Run(cmd.Context(), appserver.Config{
		Dir: dir,
		Log: slog.New(slog.NewTextHandler(log, nil)),
		Ready: func() {
			fmt.Fprintln(cmd.OutOrStdout(), "Server Running")
			ready()
		},
	})
}

// readySignal returns a function that tells the process that launched this one, if there
// is one, that clients can connect. The commands of services do not inherit the file.
func readySignal() (func(), error) {
	text, ok := os.LookupEnv(readyFile)
	if !ok {
		return func() {}, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w", readyFile, text, err)
	}
	unix.CloseOnExec(fd)
	if err := os.Unsetenv(readyFile); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "ready")
	return func() {
		_, _ = f.Write([]byte{1}) // the other process may have ended
		_ = f.Close()
	}, nil
}

// launch starts the server in the background and waits until clients can connect.
func launch(cmd *cobra.Command, path, logName string) error {
	if _, err := appserver.OpenDir(path); err != nil {
		return err
	}
	if pid, err := running(path); err != nil {
		return err
	} else if pid != 0 {
		return fmt.Errorf("another server is running in %s, PID %d", path, pid)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := openLog(path, logName)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	fmt.Fprintln(cmd.ErrOrStderr(), "Launching Server...")
	daemon := exec.Command(self, "start", "--foreground", "--", path)
	daemon.Env = append(os.Environ(), readyFile+"=3")
	daemon.ExtraFiles = []*os.File{theirs}
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = daemon.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	// The daemon writes one byte when it is ready. If it ends before, the pipe ends.
	if n, _ := ready.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("the server did not start (%v): see %s", daemon.Wait(), log.Name())
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), "Server Running"); err != nil {
		return err
	}
	return daemon.Process.Release()
}

// stop stops the server of a directory and waits for its end.
func stop(cmd *cobra.Command, path string, quiet bool) error {
	say := func(format string, args ...any) {
		if !quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
		}
	}
	pid, err := readPID(path)
	if errors.Is(err, fs.ErrNotExist) {
		say("%s does not look like a running node directory (no %s)", path, pidFile)
		return cli.ExitCode(2)
	}
	if err != nil {
		return err
	}
	// A pidfd refers to this process even if its number is reused. It is readable when
	// the process has ended, also before the parent waits for it.
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		say("process %d wasn't running, removing %s to cleanup", pid, pidFile)
		if err := os.Remove(filepath.Join(path, pidFile)); err != nil {
			return err
		}
		return cli.ExitCode(2)
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(process)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(process, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		say("%s sent to process %d, waiting for shutdown", unix.SignalName(sig), pid)
		ended, err := await(cmd.Context(), process, stopDelay)
		if err != nil {
			return err
		}
		if ended {
			// The original, and a server that was killed, may leave the file.
			if err := os.Remove(filepath.Join(path, pidFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			say("process %d terminated", pid)
			return nil
		}
	}
	return fmt.Errorf("process %d does not end, even after SIGKILL", pid)
}

// await reports whether the process ends within d.
func await(ctx context.Context, process int, d time.Duration) (bool, error) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		// A short wait, so that ctx is checked often.
		if over, err := ended(process, 200*time.Millisecond); over || err != nil {
			return over, err
		}
	}
	return false, context.Cause(ctx)
}

// ended reports whether the process of a pidfd ends within d.
func ended(process int, d time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// running returns the ID of the process that runs the server of a directory, or 0. In a
// container an old file may hold the ID of this process, and a process that was killed may
// stay unwaited for.
func running(path string) (int, error) {
	pid, err := readPID(path)
	if errors.Is(err, fs.ErrNotExist) || pid == os.Getpid() {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(process)
	if over, err := ended(process, 0); over || err != nil {
		return 0, err
	}
	return pid, nil
}

func readPID(path string) (int, error) {
	name := filepath.Join(path, pidFile)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("%s: %q is not a process ID", name, strings.TrimSpace(string(text)))
	}
	return pid, nil
}
