package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// serviceBytes is the size in bytes of the file that is uploaded and piped.
const serviceBytes = 300 << 20

// benchAppserver uploads a file to an app server and pipes it through a command there, over
// TLS on the loopback interface, with our programs and with the original's. It compares
// them with a plain copy of the file over TLS. The time that a client takes for an empty
// file is subtracted.
func benchAppserver(r *report) {
	dir := tempDir(r)
	file := filepath.Join(dir, "file")
	if err := writeRandom(file, serviceBytes); err != nil {
		r.Errorf("%v", err)
		return
	}
	var own flapp
	var err error
	if own.server, err = buildCommand(dir, "flappserver"); err == nil {
		own.client, err = buildCommand(dir, "flappclient")
	}
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	ours, err := throughServices(own, dir, file)
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	plain, err := tlsToFile(file, filepath.Join(dir, "copy"))
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	r.Row("upload-file, 300 MB", ours.upload, "MB/s")
	r.Row("run-command cat, 300 MB in and out", ours.pipe, "MB/s")
	r.Row("crypto/tls copy to a file, 300 MB", plain, "MB/s")
	r.Ratio("appserver-upload-vs-tls", ours.upload/plain)
	r.Ratio("appserver-cat-vs-tls", ours.pipe/plain)

	theirs, err := throughServices(flapp{server: "/usr/bin/flappserver", client: "/usr/bin/flappclient", once: true}, dir, file)
	if err != nil {
		r.Errorf("the original: %v", err)
		return
	}
	r.Row("the original, upload-file", theirs.upload, "MB/s")
	r.Row("the original, run-command cat", theirs.pipe, "MB/s")
	r.Ratio("appserver-upload-vs-original", ours.upload/theirs.upload)
	r.Ratio("appserver-cat-vs-original", ours.pipe/theirs.pipe)
}

// flapp is a pair of programs.
type flapp struct {
	server, client string
	once           bool // slow: measure it only once
}

type serviceRates struct{ upload, pipe float64 } // MB/s

// throughServices measures uploads and pipes of file with the programs f.
func throughServices(f flapp, temp, file string) (rates serviceRates, err error) {
	base, err := os.MkdirTemp(temp, "flapp")
	if err != nil {
		return rates, err
	}
	target := filepath.Join(base, "incoming")
	if err := os.Mkdir(target, 0o700); err != nil {
		return rates, err
	}
	port, err := freePort()
	if err != nil {
		return rates, err
	}
	dir := filepath.Join(base, "server")
	run := func(args ...string) (string, error) {
		out, err := exec.Command(f.server, args...).Output()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", f.server, args[0], err)
		}
		return string(out), nil
	}
	if _, err := run("create", "--quiet", "--location", "tcp:127.0.0.1:"+port, "--port", "tcp:"+port+":interface=127.0.0.1", dir); err != nil {
		return rates, err
	}
	furls := map[string]string{}
	for service, args := range map[string][]string{
		"upload": {"upload-file", target},
		"cat":    {"run-command", "--accept-stdin", target, "cat"},
	} {
		out, err := run(append([]string{"add", dir}, args...)...)
		if err != nil {
			return rates, err
		}
		_, furl, _ := strings.Cut(out, "FURL is ")
		furls[service] = strings.TrimSpace(furl)
	}
	if _, err := run("start", dir); err != nil {
		return rates, err
	}
	defer exec.Command(f.server, "stop", "--quiet", dir).Run()
	if err := awaitPort(port); err != nil {
		return rates, err
	}
	empty := filepath.Join(base, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return rates, err
	}
	best := func(use func(file string) (time.Duration, error)) (float64, error) {
		start, err := use(empty)
		if err != nil {
			return 0, err
		}
		took := time.Duration(1<<63 - 1)
		for range 5 {
			t, err := use(file)
			if err != nil {
				return 0, err
			}
			if took = min(took, t); f.once {
				break
			}
		}
		return serviceBytes / 1e6 / (took - start).Seconds(), nil
	}
	if rates.upload, err = best(func(file string) (time.Duration, error) {
		begin := time.Now()
		out, err := exec.Command(f.client, "--furl", furls["upload"], "upload-file", file).CombinedOutput()
		took := time.Since(begin)
		if err != nil {
			err = fmt.Errorf("upload-file: %w: %s", err, out)
		}
		return took, cmp.Or(err, sameSize(file, filepath.Join(target, filepath.Base(file))))
	}); err != nil {
		return rates, err
	}
	rates.pipe, err = best(func(file string) (time.Duration, error) {
		in, err := os.Open(file)
		if err != nil {
			return 0, err
		}
		defer in.Close()
		copied := filepath.Join(base, "copied")
		out, err := os.Create(copied) // the original's client loses data if stdout is a pipe
		if err != nil {
			return 0, err
		}
		defer out.Close()
		begin := time.Now()
		cmd := exec.Command(f.client, "--furl", furls["cat"], "run-command")
		cmd.Stdin, cmd.Stdout = in, out
		err = cmd.Run()
		return time.Since(begin), cmp.Or(err, sameSize(file, copied))
	})
	return rates, err
}

// writeRandom writes a file of n random bytes, which do not compress.
func writeRandom(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), n)
	return errors.Join(err, f.Sync(), f.Close())
}

// sameSize returns an error unless both files have the same size.
func sameSize(a, b string) error {
	x, err := os.Stat(a)
	if err != nil {
		return err
	}
	y, err := os.Stat(b)
	if err == nil && x.Size() != y.Size() {
		err = fmt.Errorf("%[2]d of %[1]d bytes arrived", x.Size(), y.Size())
	}
	return err
}

// freePort returns a TCP port of the loopback interface that is free now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), l.Close()
}

// awaitPort waits until a server listens on the port, at most five seconds.
func awaitPort(port string) error {
	for range 100 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the server does not listen after 5 s")
}

// tlsToFile sends a file over crypto/tls to a goroutine that stores and syncs it, and returns
// the best of five rates in MB/s.
func tlsToFile(from, to string) (best float64, err error) {
	server, client, err := keys()
	if err != nil {
		return 0, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	for range 5 {
		stored := make(chan error, 1)
		go func() { stored <- storeNext(l, to) }()
		took, err := sendFile(l.Addr().String(), client, from, stored)
		if err != nil {
			return 0, err
		}
		best = max(best, serviceBytes/1e6/took.Seconds())
	}
	return best, nil
}

// storeNext stores what the next connection sends.
func storeNext(l net.Listener, to string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, c); err != nil {
		return err
	}
	return f.Sync()
}

// sendFile sends a file and returns the time until it is stored.
func sendFile(addr string, conf *tls.Config, from string, stored <-chan error) (time.Duration, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	c, err := tls.Dial("tcp", addr, conf)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = io.Copy(c, f)
	c.Close()
	if e := <-stored; err == nil {
		err = e
	}
	return time.Since(start), err
}
