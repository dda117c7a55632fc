// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// endpoint is one member of the cluster.
type endpoint struct {
	url     string
	network string // "tcp" or "unix", for net.Dial
	addr    string
	host    string // that its certificate must name
	tls     bool
}

const defaultPort = "2379"

// parseEndpoints checks that all endpoints are URLs of one kind: the client
// takes the first one's scheme for all.
func parseEndpoints(raw []string, files bool) ([]endpoint, error) {
	var out []endpoint
	for _, s := range raw {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		e, err := parseEndpoint(s, files)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 && out[0].tls != e.tls {
			return nil, fmt.Errorf("endpoints %s and %s are with and without TLS: use https for all", out[0].url, e.url)
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no endpoint: give at least one, as http://127.0.0.1:2379")
	}
	return out, nil
}

func parseEndpoint(s string, files bool) (endpoint, error) {
	if strings.Contains(s, "@") {
		// Not to be repeated in a message: there may be a password in it.
		return endpoint{}, errors.New("an endpoint has a user name or password in it: give those by themselves")
	}
	if !strings.Contains(s, "://") {
		scheme := "http://"
		if files {
			scheme = "https://"
		}
		s = scheme + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return endpoint{}, fmt.Errorf("endpoint %q is no URL such as https://10.0.0.1:2379", s)
	}
	switch u.Scheme {
	case "unix", "unixs":
		file := u.Host + u.Path
		return endpoint{url: s, network: "unix", addr: file, host: file[strings.LastIndexByte(file, '/')+1:], tls: u.Scheme == "unixs"}, nil
	case "http", "https":
	default:
		return endpoint{}, fmt.Errorf("endpoint %q starts with neither http:// nor https://", s)
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = defaultPort
	}
	if host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, fmt.Errorf("endpoint %q is no URL such as https://10.0.0.1:2379", s)
	}
	addr := net.JoinHostPort(host, port)
	return endpoint{url: u.Scheme + "://" + addr, network: "tcp", addr: addr, host: host, tls: u.Scheme == "https"}, nil
}
