package rpc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/flogtool/flogtool/internal/durable"
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tubIDOf returns the TubID of a certificate. The protocol demands SHA-1:
// foolscap-wire.md section 1.1.
func tubIDOf(certificate []byte) TubID {
	sum := sha1.Sum(certificate)
	return TubID(base32Lower.EncodeToString(sum[:]))
}

// NewSwissnum returns a name for an object that cannot be guessed: 160 random
// bits in base32, 32 characters. Spec: foolscap-wire.md section 1.2.
func NewSwissnum() string {
	var b [20]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return base32Lower.EncodeToString(b[:])
}

func newIncarnation() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// identity is a Tub's key and certificate.
type identity struct {
	cert tls.Certificate
	id   TubID
}

// loadIdentity reads the key file, or creates it if it does not exist. Without a
// file it makes an identity for this Tub.
func loadIdentity(file string) (identity, error) {
	if file == "" {
		text, err := newKeyFile()
		if err != nil {
			return identity{}, err
		}
		return parseIdentity(text)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = createKeyFile(file)
	}
	if err != nil {
		return identity{}, fmt.Errorf("rpc: key file: %w", err)
	}
	ident, err := parseIdentity(text)
	if err != nil {
		return identity{}, fmt.Errorf("rpc: key file %q: %w", file, err)
	}
	return ident, nil
}

// parseIdentity accepts the blocks in any order. It keeps the bytes of the
// certificate unchanged: the TubID is their hash.
func parseIdentity(text []byte) (identity, error) {
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return identity{}, err
	}
	return identity{cert, tubIDOf(cert.Certificate[0])}, nil
}

// newKeyFile makes a key and a self-signed certificate for it.
//
// The key is P-256, where the original uses RSA 2048: it is generated a thousand
// times faster and signs thirty times faster, and it was tested with the original in
// every role. There is no extended key usage, which the original would check. The
// dates are as wide as possible, because a Tub's identity does not expire.
func newKeyFile() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name := pkix.Name{CommonName: "newpb_thingy"} // the name that the original uses
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      name,
		Issuer:       name,
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer does not fail
	pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return out.Bytes(), nil
}

// createKeyFile writes a new key file. If another process does so at the same
// time, both return the same key.
func createKeyFile(file string) ([]byte, error) {
	text, err := newKeyFile()
	if err != nil {
		return nil, err
	}
	p, err := durable.NewFile(file, 0o600)
	if err != nil {
		return nil, err
	}
	defer p.Cleanup()
	if _, err := p.Write(text); err != nil {
		return nil, err
	}
	switch err := p.CommitNew(); {
	case errors.Is(err, fs.ErrExist):
		return os.ReadFile(file)
	case err != nil:
		return nil, err
	}
	return text, nil
}

// writeFURLFile replaces a furl file. A new one has mode 0600, an existing one
// keeps its mode.
func writeFURLFile(file string, f FURL) error {
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(file); err == nil {
		mode = st.Mode().Perm()
	}
	p, err := durable.NewFile(file, mode)
	if err != nil {
		return err
	}
	defer p.Cleanup()
	if _, err := p.Write([]byte(f.String() + "\n")); err != nil {
		return err
	}
	if err := p.Chmod(mode); err != nil {
		return err
	}
	return p.Commit()
}
