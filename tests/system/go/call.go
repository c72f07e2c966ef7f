// Go's standard client as a process: one call a line of standard input, one answer a line of standard output.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"time"
)

type call struct {
	Method, URL, Framing, Content, Into string
	TimeoutMs                           time.Duration `json:"timeout_ms"`
}

type answer struct {
	Status  int               `json:"status,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Interim []int             `json:"interim,omitempty"`
	Timeout bool              `json:"timeout,omitempty"`
	Error   string            `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	told := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked call
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		answered, err := asked.do()
		if err != nil {
			answered = answer{Timeout: errors.Is(err, context.DeadlineExceeded), Error: err.Error()}
		}
		if err := told.Encode(answered); err != nil {
			log.Fatal(err)
		}
	}
}

func (asked call) do() (answered answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), asked.TimeoutMs*time.Millisecond)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			answered.Interim = append(answered.Interim, code)
			return nil
		},
	})
	body, err := asked.body()
	if err != nil {
		return answered, err
	}
	request, err := http.NewRequestWithContext(ctx, asked.Method, asked.URL, body)
	if err != nil {
		return answered, err
	}
	if asked.Framing == "expected" {
		request.Header.Set("Expect", "100-continue")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answered, err
	}
	defer response.Body.Close()
	into, err := os.Create(asked.Into)
	if err != nil {
		return answered, err
	}
	defer into.Close()
	if _, err = io.Copy(into, response.Body); err != nil {
		return answered, err
	}
	answered.Status = response.StatusCode
	answered.Headers = map[string]string{}
	for name, values := range response.Header {
		answered.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return answered, nil
}

// body is what NewRequest knows the length of, except where chunks are wanted.
func (asked call) body() (io.Reader, error) {
	if asked.Framing == "none" {
		return nil, nil
	}
	content, err := os.ReadFile(asked.Content)
	if asked.Framing == "chunked" {
		return io.MultiReader(bytes.NewReader(content)), err
	}
	return bytes.NewReader(content), err
}
