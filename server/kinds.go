package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// asIs formats a text.
func asIs(s string) string { return s }

// address is host:port to listen on.
func address() kind[string] {
	return kind[string]{
		value: "HOST:PORT", allowed: "HOST:PORT such as 127.0.0.1:8080, or :8080 for every address", format: asIs,
		parse: func(s string) (string, error) {
			_, port, err := net.SplitHostPort(s)
			if err != nil {
				return "", errors.New("is not an address with a port")
			}
			if n, err := strconv.ParseUint(port, 10, 16); err != nil {
				return "", fmt.Errorf("has the port %q, which is not 0 to 65535", port)
			} else if strconv.FormatUint(n, 10) != port {
				return "", fmt.Errorf("has an odd port %q", port)
			}
			return s, nil
		},
	}
}

// optional is k, or an empty value for none.
func optional(k kind[string]) kind[string] {
	parse := k.parse
	k.allowed += "; or empty for none"
	k.parse = func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parse(s)
	}
	return k
}

// origin is a web origin: scheme and host, nothing more.
func origin() kind[string] {
	return kind[string]{
		value: "ORIGIN", allowed: "SCHEME://HOST or SCHEME://HOST:PORT, such as https://chat.example", format: asIs,
		parse: func(s string) (string, error) {
			if _, err := wire.ParseOrigin(s); err != nil {
				return "", errors.New("is not a web origin")
			}
			return s, nil
		},
	}
}

// endpoint is the path of one route, or empty for none.
func endpoint() kind[string] {
	return kind[string]{
		value: "PATH", allowed: "a path such as /admin/health or /health that nothing else has, or empty for none", format: asIs,
		parse: func(s string) (string, error) {
			if s == "" {
				return s, nil
			}
			if !cleanPath(s) {
				return "", errors.New("is not such a path")
			}
			for _, taken := range takenPaths() {
				if below(s, taken) {
					return "", errors.New("is taken")
				}
			}
			return s, nil
		},
	}
}

// takenPaths are those that are not settings, with all below them. The routes of
// one package have one line.
func takenPaths() []string {
	return []string{"/v1", "/api", "/debug", textoPage, readyPath, debugPath, routerPath}
}

// below reports whether a path is another one or below it.
func below(path, other string) bool { return path == other || strings.HasPrefix(path, other+"/") }

// gobblerPrefix is a path that the Gobbler protocol is served below, and a
// dialect.
func gobblerPrefix() kind[GobblerPrefix] {
	return kind[GobblerPrefix]{
		value: "PATH[=DIALECT]",
		allowed: "a path that begins and ends with a slash, such as /stream/, outside /admin/, /api/, /debug/, /texto/ and /v1/; " +
			"after it may stand =" + GobblerDeployed + " or =" + GobblerDocumented,
		parse: func(s string) (GobblerPrefix, error) {
			path, dialect, given := strings.Cut(s, "=")
			if len(path) < 3 || !strings.HasSuffix(path, "/") || !cleanPath(strings.TrimSuffix(path, "/")) {
				return GobblerPrefix{}, errors.New("is not such a path")
			}
			if root, _, _ := strings.Cut(path[1:], "/"); slices.Contains([]string{"admin", "api", "debug", "texto", "v1"}, root) {
				return GobblerPrefix{}, errors.New("is taken")
			}
			if given && dialect != GobblerDeployed && dialect != GobblerDocumented {
				return GobblerPrefix{}, errors.New("names no dialect")
			}
			return GobblerPrefix{path, dialect}, nil
		},
		format: func(p GobblerPrefix) string {
			if p.Dialect == "" {
				return p.Path
			}
			return p.Path + "=" + p.Dialect
		},
	}
}

// cleanPath reports whether p begins with a slash and is made of plain, not
// empty segments, so that the route means what it says.
func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	for segment := range strings.SplitSeq(p[1:], "/") {
		plain := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~", r)
		}
		if segment == "" || strings.Trim(segment, ".") == "" || strings.ContainsFunc(segment, func(r rune) bool { return !plain(r) }) {
			return false
		}
	}
	return true
}

// path is a place in the file system.
func path() kind[string] {
	return kind[string]{
		value: "DIR", allowed: "the path of a directory", format: asIs,
		parse: func(s string) (string, error) {
			if s == "" || strings.ContainsRune(s, 0) {
				return "", errors.New("is no path")
			}
			return s, nil
		},
	}
}

// file is a file, or none.
func file() kind[string] {
	return kind[string]{
		value: "FILE", allowed: "the path of a file; or empty for none", format: asIs,
		parse: func(s string) (string, error) {
			if strings.ContainsRune(s, 0) {
				return "", errors.New("is no path")
			}
			return s, nil
		},
	}
}

// choice is one of a few words.
func choice(words ...string) kind[string] {
	return kind[string]{
		value: strings.Join(words, "|"), allowed: strings.Join(words, ", "), format: asIs,
		parse: func(s string) (string, error) {
			if !slices.Contains(words, s) {
				return "", errors.New("is not one of these words")
			}
			return s, nil
		},
	}
}

// messageStore is where messages are kept.
func messageStore() kind[string] {
	k := choice(StorageFile, StorageMemory)
	return instead(k, map[string]string{
		"none": noHistory, "": noHistory,
	})
}

const noHistory = "a server always keeps messages; --ms memory with --retention '*=bytes:64MiB' writes none to disk and keeps few"

// recordStore is where records are kept.
func recordStore() kind[string] {
	k := optional(choice(StorageFile, StorageMemory))
	k.allowed = "file, memory; or empty for where messages are kept"
	return instead(k, map[string]string{"postgres": "records are kept in the store itself"})
}

// instead is k, but values that meant something to the Gobbler server are
// answered by what to use in their place.
func instead(k kind[string], answers map[string]string) kind[string] {
	parse := k.parse
	k.parse = func(s string) (string, error) {
		if answer, ok := answers[s]; ok {
			return "", fmt.Errorf("is not supported: %s", answer)
		}
		return parse(s)
	}
	return k
}

// environment is the name of an environment, long or short; it is kept short.
func environment() kind[string] {
	long := map[string]string{"development": "dev", "integration": "int", "preproduction": "pre", "production": "prod"}
	k := optional(choice("dev", "int", "pre", "prod"))
	k.allowed = "dev, int, pre, prod, their long names such as production; or empty for none"
	parse := k.parse
	k.parse = func(s string) (string, error) { return parse(cmp.Or(long[s], s)) }
	return k
}

// level is a level of the log, also by the names that the Gobbler server had.
func level() kind[slog.Level] {
	levels := map[string]slog.Level{
		"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug,
		"panic": slog.LevelError, "fatal": slog.LevelError, "warning": slog.LevelWarn,
	}
	return kind[slog.Level]{
		value: "error|warn|info|debug", allowed: "error, warn, info, debug; also warning, and panic and fatal for error",
		parse: func(s string) (slog.Level, error) {
			l, ok := levels[s]
			if !ok {
				return 0, errors.New("is not a level")
			}
			return l, nil
		},
		format: func(l slog.Level) string { return strings.ToLower(l.String()) },
	}
}

// count is a whole number within bounds.
func count(least, most int) kind[int] {
	return kind[int]{
		value: "NUMBER", allowed: fmt.Sprintf("%d to %d", least, most), format: strconv.Itoa,
		parse: func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil {
				return 0, errors.New("is not a whole number")
			}
			return n, within(n, least, most)
		},
	}
}

// size is a number of bytes within bounds.
func size(least, most int64) kind[int64] {
	return kind[int64]{
		value: "SIZE", format: FormatSize,
		allowed: fmt.Sprintf("%s to %s, as a number with B, KiB, MiB, GiB or TiB", FormatSize(least), FormatSize(most)),
		parse: func(s string) (int64, error) {
			n, err := ParseSize(s)
			if err != nil {
				return 0, fmt.Errorf("is %w", err)
			}
			return n, within(n, least, most)
		},
	}
}

// duration is a time span within bounds.
func duration(least, most time.Duration) kind[time.Duration] {
	return kind[time.Duration]{
		value: "DURATION", format: formatDuration,
		allowed: fmt.Sprintf("%s to %s, as a number with ms, s, m, h or d", formatDuration(least), formatDuration(most)),
		parse: func(s string) (time.Duration, error) {
			d, err := ParseDuration(s)
			if err != nil {
				return 0, fmt.Errorf("is %w", err)
			}
			return d, within(d, least, most)
		},
	}
}

// within says whether v is too small or too large.
func within[T int | int64 | time.Duration](v, least, most T) error {
	switch {
	case v < least:
		return errors.New("is too small")
	case v > most:
		return errors.New("is too large")
	}
	return nil
}

// toggle is a setting that is on or off.
func toggle(key, usage string, field func(*Config) *bool) Setting {
	s := one(key, usage, kind[bool]{
		value: "true|false", allowed: "true, false", format: strconv.FormatBool,
		parse: func(text string) (bool, error) {
			if text != "true" && text != "false" {
				return false, errors.New("is neither")
			}
			return text == "true", nil
		},
	}, field)
	s.Switch = true
	return s
}
