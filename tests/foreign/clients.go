// Drives gorilla/websocket, nhooyr.io/websocket and net/http, as `matrix.py` tells it: see `drivers.py` for the words.
//
// What they are given by the server is passed on as they gave it; nothing is judged here.

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	gorilla "github.com/gorilla/websocket"
	nhooyr "nhooyr.io/websocket"
)

// Set by whoever builds this: the packages do not know.
var gorillaVersion, nhooyrVersion = "?", "?"

var out sync.Mutex

func tell(fields ...string) {
	out.Lock()
	defer out.Unlock()
	fmt.Println(strings.Join(fields, "\t"))
}

func packed(payload []byte) string {
	return base64.StdEncoding.EncodeToString(payload)
}

func lost(ctx context.Context, n string, err error) {
	if ctx.Err() == nil {
		tell(n, "lost", strings.Map(oneLine, err.Error()))
	}
}

func oneLine(r rune) rune {
	if r == '\t' || r == '\n' {
		return ' '
	}
	return r
}

func frame(n string, isText bool, payload []byte) {
	kind := "binary"
	if isText {
		kind = "text"
	}
	tell(n, kind, packed(payload))
}

func runGorilla(ctx context.Context, n, url, protocol string) {
	dialer := gorilla.Dialer{EnableCompression: true}
	if protocol != "" {
		dialer.Subprotocols = []string{protocol}
	}
	socket, _, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		lost(ctx, n, err)
		return
	}
	go func() {
		<-ctx.Done()
		socket.Close() // without a Close frame
	}()
	tell(n, "open", socket.Subprotocol())
	answer := socket.PingHandler()
	socket.SetPingHandler(func(payload string) error {
		tell(n, "ping")
		return answer(payload)
	})
	for {
		kind, payload, err := socket.ReadMessage()
		var closed *gorilla.CloseError
		if errors.As(err, &closed) && closed.Code != gorilla.CloseAbnormalClosure {
			tell(n, "closed", fmt.Sprint(closed.Code), closed.Text)
			socket.Close()
			return
		}
		if err != nil {
			lost(ctx, n, err)
			socket.Close()
			return
		}
		frame(n, kind == gorilla.TextMessage, payload)
	}
}

func runNhooyr(ctx context.Context, n, url, protocol string) {
	options := nhooyr.DialOptions{}
	if protocol != "" {
		options.Subprotocols = []string{protocol}
	}
	socket, _, err := nhooyr.Dial(ctx, url, &options)
	if err != nil {
		lost(ctx, n, err)
		return
	}
	socket.SetReadLimit(1 << 20)
	tell(n, "open", socket.Subprotocol())
	for {
		kind, payload, err := socket.Read(ctx) // ends the connection when ctx does
		var closed nhooyr.CloseError
		if errors.As(err, &closed) {
			tell(n, "closed", fmt.Sprint(int(closed.Code)), closed.Reason)
			return
		}
		if err != nil {
			lost(ctx, n, err)
			return
		}
		frame(n, kind == nhooyr.MessageText, payload)
	}
}

func request(ctx context.Context, n, url string, headers map[string]string) *http.Response {
	asked, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err == nil {
		for name, value := range headers {
			asked.Header.Set(name, value)
		}
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(asked); err == nil {
			return answer
		}
	}
	lost(ctx, n, err)
	return nil
}

func runStream(ctx context.Context, n, url, last string) {
	headers := map[string]string{"Accept": "text/event-stream"}
	if last != "" {
		headers["Last-Event-ID"] = last
	}
	answer := request(ctx, n, url, headers)
	if answer == nil {
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		tell(n, "lost", answer.Status)
		return
	}
	piece := make([]byte, 16*1024)
	for {
		count, err := answer.Body.Read(piece)
		if count > 0 {
			tell(n, "bytes", packed(piece[:count]))
		}
		if err == io.EOF {
			tell(n, "end")
			return
		}
		if err != nil {
			lost(ctx, n, err)
			return
		}
	}
}

func runGet(ctx context.Context, n, url string) {
	answer := request(ctx, n, url, nil)
	if answer == nil {
		return
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		lost(ctx, n, err)
		return
	}
	var head strings.Builder
	answer.Header.Write(&head)
	if answer.Close {
		head.WriteString("Connection: close\n") // net/http keeps it out of the map
	}
	tell(n, "answer", fmt.Sprint(answer.StatusCode), packed([]byte(head.String())), packed(body))
}

func main() {
	tell("client", "gorilla", gorillaVersion)
	tell("client", "nhooyr", nhooyrVersion)
	tell("client", "net-http", strings.TrimPrefix(runtime.Version(), "go"))
	tell("ready")
	http.DefaultTransport.(*http.Transport).ResponseHeaderTimeout = time.Minute
	drops := map[string]context.CancelFunc{}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		fields := strings.Split(input.Text(), "\t")
		n := fields[1]
		if fields[0] == "drop" {
			if drop, ok := drops[n]; ok {
				drop()
			}
			tell(n, "dropped")
			continue
		}
		url, protocol, last := fields[4], fields[5], fields[6]
		ctx, drop := context.WithCancel(context.Background())
		drops[n] = drop
		switch fields[2] + " " + fields[3] {
		case "gorilla ws":
			go runGorilla(ctx, n, url, protocol)
		case "nhooyr ws":
			go runNhooyr(ctx, n, url, protocol)
		case "net-http stream":
			go runStream(ctx, n, url, last)
		case "net-http get":
			go runGet(ctx, n, url)
		}
	}
}
