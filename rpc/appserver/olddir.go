package appserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// loadOld reads the layout of servers without services.json: each directory below
// services/ with a file service_type is a service, and its name is the swissnum.
func (d *Dir) loadOld() (map[string]entry, error) {
	all := map[string]entry{}
	top := filepath.Join(d.path, servicesDir)
	err := filepath.WalkDir(top, func(path string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() || f.Name() != "service_type" {
			return err
		}
		dir := filepath.Dir(path)
		name, err := filepath.Rel(top, dir)
		if err != nil {
			return err
		}
		e := entry{Relative: servicesDir + "/" + filepath.ToSlash(name)}
		typ, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		e.Type = strings.TrimSpace(string(typ))
		args, err := os.ReadFile(filepath.Join(dir, "service_args"))
		if err != nil {
			return err
		}
		if e.Args, err = pythonStrings(string(args)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, "service_args"), err)
		}
		comment, err := os.ReadFile(filepath.Join(dir, "comment"))
		if err == nil {
			e.Comment = new(strings.TrimSpace(string(comment)))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		all[filepath.ToSlash(name)] = e
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("appserver: %w", err)
	}
	return all, nil
}

// pythonStrings parses a Python tuple or list of strings in the form that repr writes:
// ('a', u'b\x20c', "it's").
func pythonStrings(text string) ([]string, error) {
	s := strings.TrimSpace(text)
	if len(s) < 2 || s[0] != '(' && s[0] != '[' {
		return nil, errors.New("not a Python tuple of strings")
	}
	s = s[1:]
	out := []string{}
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == ")" || s == "]" {
			return out, nil
		}
		isText := strings.HasPrefix(s, "u") // otherwise \xNN is a byte, not a character
		s = strings.TrimLeft(s, "ub")
		if s == "" || s[0] != '\'' && s[0] != '"' {
			return nil, errors.New("not a Python tuple of strings")
		}
		quote := s[0]
		var word strings.Builder
		for s = s[1:]; ; {
			if s == "" {
				return nil, errors.New("a string without an end")
			}
			if s[0] == quote {
				s = s[1:]
				break
			}
			r, multibyte, rest, err := strconv.UnquoteChar(s, quote)
			if err != nil {
				return nil, errors.New("an escape that repr does not write")
			}
			if multibyte || isText || r < 0x80 {
				word.WriteRune(r)
			} else {
				word.WriteByte(byte(r))
			}
			s = rest
		}
		out = append(out, word.String())
		s = strings.TrimLeft(s, " \t\r\n")
		s = strings.TrimPrefix(s, ",")
	}
}
