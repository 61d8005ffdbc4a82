package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// serviceBytes is the size of what is uploaded and piped.
const serviceBytes = 300 << 20

// benchAppserver uploads a file to an app server and sends as much through a
// command, over TLS on loopback, beside a plain copy into a file over TLS.
func benchAppserver(r *report) {
	upload, pipe, err := throughServices(r)
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	plain, err := tlsToFile(filepath.Join(tempDir(r), "copy"))
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	r.Row("upload-file, 300 MB", upload, "MB/s")
	r.Row("run-command cat, 300 MB in and out", pipe, "MB/s")
	r.Row("crypto/tls copy to a file, 300 MB", plain, "MB/s")
	r.Ratio("appserver-upload-vs-tls", upload/plain)
	r.Ratio("appserver-cat-vs-tls", pipe/plain)
}

// zeros gives n bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func rate(start time.Time) float64 { return serviceBytes / 1e6 / time.Since(start).Seconds() }

func throughServices(r *report) (upload, pipe float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	base := tempDir(r)
	target := filepath.Join(base, "incoming")
	if err := os.Mkdir(target, 0o700); err != nil {
		return 0, 0, err
	}
	dir, _, err := appserver.Create(filepath.Join(base, "server"), appserver.Options{
		Port: fmt.Sprintf("tcp:%d:interface=127.0.0.1", port), Location: fmt.Sprintf("tcp:127.0.0.1:%d", port), Umask: 0o022,
	})
	if err != nil {
		return 0, 0, err
	}
	files, err := dir.Add(appserver.Builtin(), "upload-file", []string{target}, "")
	if err != nil {
		return 0, 0, err
	}
	cat, err := dir.Add(appserver.Builtin(), "run-command", []string{"--accept-stdin", target, "cat"}, "")
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- appserver.Run(ctx, appserver.Config{Dir: dir, Ready: func() { close(ready) }}) }()
	defer func() { cancel(); <-ended }()
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		return 0, 0, err
	}
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer tub.Close()
	service, err := tub.Connect(ctx, files.FURL)
	if err != nil {
		return 0, 0, err
	}
	for range 3 {
		start := time.Now()
		if err := appserver.Upload(ctx, service, "file", zeros(serviceBytes), nil); err != nil {
			return 0, 0, err
		}
		upload = max(upload, rate(start))
	}
	if service, err = tub.Connect(ctx, cat.FURL); err != nil {
		return 0, 0, err
	}
	for range 2 {
		var got counter
		var errs bytes.Buffer
		start := time.Now()
		if _, err := appserver.Execute(ctx, service, zeros(serviceBytes), &got, &errs); err != nil {
			return 0, 0, err
		}
		if got != serviceBytes {
			return 0, 0, fmt.Errorf("cat gave %d bytes back: %s", got, errs.Bytes())
		}
		pipe = max(pipe, rate(start))
	}
	return upload, pipe, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// tlsToFile copies as many bytes into a file, and syncs it, over crypto/tls alone.
func tlsToFile(path string) (best float64, err error) {
	server, client, err := keys()
	if err != nil {
		return 0, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	for range 3 {
		stored := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				stored <- err
				return
			}
			defer c.Close()
			f, err := os.Create(path)
			if err != nil {
				stored <- err
				return
			}
			defer f.Close()
			if _, err = io.Copy(f, c); err == nil {
				err = f.Sync()
			}
			stored <- err
		}()
		c, err := tls.Dial("tcp", l.Addr().String(), client)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		if _, err := io.Copy(c, zeros(serviceBytes)); err != nil {
			return 0, err
		}
		c.Close()
		if err := <-stored; err != nil {
			return 0, err
		}
		best = max(best, rate(start))
	}
	return best, nil
}
