package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

const kubeconfigFormat = `apiVersion: v1
kind: Config
current-context: kube1
clusters: [{name: kube1, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: admin, user: {token: "%s"}}]
contexts: [{name: kube1, context: {cluster: kube1, user: admin}}]
`

// makeCredentials writes, once: the authority, the API server's certificate, the key of service accounts, the
// administrator's token and kubeconfig. The kubeconfig is the last, and tells that the others are there.
func makeCredentials(san []string) error {
	if _, err := os.Stat(path("admin.kubeconfig")); err == nil {
		return nil
	}
	authorityKey, err := makeKey("ca.key")
	if err != nil {
		return err
	}
	serverKey, err := makeKey("server.key")
	if err != nil {
		return err
	}
	if _, err := makeKey("sa.key"); err != nil {
		return err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube1-ca"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		SubjectKeyId: []byte{1, 2, 3, 4},
	}
	authorityPEM, err := makeCertificate("ca.crt", authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	server := serverCertificate(authority, san)
	if _, err := makeCertificate("server.crt", server, authority, serverKey.Public(), authorityKey); err != nil {
		return err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	token := hex.EncodeToString(random)
	if err := os.WriteFile(path("pki", "admin.token"), []byte(token), 0o600); err != nil {
		return err
	}
	row := token + `,admin,admin,"system:masters"` + "\n"
	if err := os.WriteFile(path("pki", "tokens.csv"), []byte(row), 0o600); err != nil {
		return err
	}
	encoded := base64.StdEncoding.EncodeToString(authorityPEM)
	kubeconfig := fmt.Sprintf(kubeconfigFormat, localServer, encoded, token)
	return os.WriteFile(path("admin.kubeconfig"), []byte(kubeconfig), 0o600)
}

// serverCertificate is valid for this machine's addresses, and for the names and addresses that were asked for.
func serverCertificate(authority *x509.Certificate, san []string) *x509.Certificate {
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, AuthorityKeyId: authority.SubjectKeyId,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(10, 96, 0, 1)},
	}
	hostname, _ := os.Hostname()
	for _, name := range append(san, hostname) {
		if address := net.ParseIP(name); address != nil {
			certificate.IPAddresses = append(certificate.IPAddresses, address)
		} else if name != "" {
			certificate.DNSNames = append(certificate.DNSNames, name)
		}
	}
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok {
			certificate.IPAddresses = append(certificate.IPAddresses, network.IP)
		}
	}
	return certificate
}

func makeKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	_, err = save(name, "EC PRIVATE KEY", der)
	return key, err
}

func makeCertificate(name string, subject, issuer *x509.Certificate, key, issuerKey any) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, subject, issuer, key, issuerKey)
	if err != nil {
		return nil, err
	}
	return save(name, "CERTIFICATE", der)
}

// save returns what it wrote.
func save(name, kind string, der []byte) ([]byte, error) {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return text, os.WriteFile(path("pki", name), text, 0o600)
}
