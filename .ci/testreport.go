//go:build ignore

// Testreport runs a `go test -json` command and prints a line for each package, the output of
// tests that fail, and at the end the tests that were skipped, with their reasons, and those
// that printed a secret. Its exit code is that of the command; a printed secret is a failure,
// and with FLOG_REQUIRE_PEERS=1 a skipped test is one.
//
//	go run .ci/testreport.go -- go test -json ./...
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// event is one line of go test -json; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of the package that is built, for build-output
	Test       string
	Elapsed    float64
	Output     string
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "testreport: the command is missing")
		os.Exit(2)
	}
	fmt.Println(strings.Join(args, " "))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}

	var skipped, leaks []string
	exempt := map[string]bool{}      // by "package test": a script whose output may be a FURL now
	outputs := map[string][]string{} // by "package test", until the test has ended
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var ev event
		if json.Unmarshal(lines.Bytes(), &ev) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := ev.Package + " " + ev.Test
		// A script shows the commands that it ran and their output, which may be a
		// FURL that was asked for. What went to stderr may not.
		switch line := strings.TrimSpace(ev.Output); {
		case line == "[stderr]":
			exempt[key] = false
		case line == "[stdout]" || strings.HasPrefix(line, "> "):
			exempt[key] = true
		}
		if !exempt[key] && secret.MatchString(ev.Output) {
			leaks = append(leaks, key+": "+secret.FindString(ev.Output)[:24]+"…")
		}
		switch {
		case ev.Action == "build-output":
			fmt.Print(ev.Output)
		case ev.Action == "output":
			outputs[key] = append(outputs[key], ev.Output)
		case ev.Test == "" && (ev.Action == "pass" || ev.Action == "fail"):
			packageDone(ev, outputs[key])
			delete(outputs, key)
		case ev.Action == "fail":
			fmt.Print(strings.Join(outputs[key], ""))
			delete(outputs, key)
		case ev.Action == "skip" && ev.Test != "":
			skipped = append(skipped, fmt.Sprintf("%s %s: %s", ev.Package, ev.Test, reason(outputs[key])))
			delete(outputs, key)
		case ev.Action == "pass":
			delete(outputs, key)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	// If the process of a package dies, its running test has no "fail".
	for key, output := range outputs {
		if strings.HasSuffix(key, " ") {
			continue
		}
		fmt.Printf("%s did not end:\n%s", key, strings.Join(output, ""))
	}
	err = cmd.Wait()
	for i, s := range skipped {
		if i == 0 {
			fmt.Println("\nSkipped:")
		}
		fmt.Println("  " + s)
	}
	for i, s := range leaks {
		if i == 0 {
			fmt.Println("\nTests whose output shows a secret, which a log must not:")
		}
		fmt.Println("  " + s)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(1, exit.ExitCode()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if len(leaks) > 0 {
		os.Exit(1)
	}
	if len(skipped) > 0 && os.Getenv("FLOG_REQUIRE_PEERS") == "1" {
		fmt.Println("FLOG_REQUIRE_PEERS=1: no test may be skipped.")
		os.Exit(1)
	}
}

// secret finds what no program of ours may print unless it was asked to: a FURL with a random
// swissnum, and a private key.
var secret = regexp.MustCompile(`(?i)pb:\\?/\\?/[a-z2-7]{32}@[^\s"'/]*\\?/[a-z2-7]{32}|-----BEGIN [A-Z ]*PRIVATE KEY`)

// packageDone prints the `ok` line of a package, and for a package that failed all of its own
// output, such as a panic.
func packageDone(ev event, output []string) {
	if ev.Action == "fail" {
		fmt.Print(strings.Join(output, ""))
		return
	}
	for _, line := range output {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "?") {
			fmt.Print(line)
		}
	}
}

// reason returns the output of a skipped test on one line.
func reason(output []string) string {
	var why []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		why = append(why, line)
	}
	if len(why) == 0 {
		return "no reason given"
	}
	return strings.Join(why, " ")
}
