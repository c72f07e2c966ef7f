import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Java's standard client as a process: one call a line of standard input, one answer a line of standard output. */
public final class Call {
    /** A member of a flat JSON object whose strings need no escape. */
    private static final Pattern MEMBER = Pattern.compile("\"(\\w+)\": *\"?([^\",}]*)");

    public static void main(String[] arguments) throws Exception {
        // Java has properties where others have HTTP_PROXY.
        var proxy = URI.create(System.getenv("http_proxy"));
        for (var scheme : new String[] {"http", "https"}) {
            System.setProperty(scheme + ".proxyHost", proxy.getHost());
            System.setProperty(scheme + ".proxyPort", String.valueOf(proxy.getPort()));
        }
        var builder = HttpClient.newBuilder();
        if (proxy.getUserInfo() != null) {
            // Of itself it gives no password in the clear for a tunnel.
            System.setProperty("jdk.http.auth.tunneling.disabledSchemes", "");
            var given = proxy.getUserInfo().split(":", 2);
            builder.authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return getRequestorType() == RequestorType.PROXY
                            ? new PasswordAuthentication(given[0], given[1].toCharArray())
                            : null;
                }
            });
        }
        var client = builder.build();
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            System.out.println(answer(client, line));
        }
    }

    private static String answer(HttpClient client, String line) throws InterruptedException {
        Map<String, String> call = new HashMap<>();
        MEMBER.matcher(line).results().forEach(member -> call.put(member.group(1), member.group(2)));
        try {
            var request = HttpRequest.newBuilder(URI.create(call.get("url")))
                    .method(call.get("method"), body(call.get("framing"), Path.of(call.get("content"))))
                    .expectContinue(call.get("framing").equals("expected"))
                    .timeout(Duration.ofMillis(Long.parseLong(call.get("timeout_ms"))))
                    .build();
            var response = client.send(request, BodyHandlers.ofFile(Path.of(call.get("into"))));
            var headers = response.headers().map().entrySet().stream()
                    .map(field -> quoted(field.getKey().toLowerCase()) + ":"
                            + quoted(String.join(", ", field.getValue())))
                    .collect(Collectors.joining(","));
            return "{\"status\":" + response.statusCode() + ",\"headers\":{" + headers + "}}";
        } catch (HttpTimeoutException error) {
            return "{\"timeout\":true}";
        } catch (IOException error) {
            return "{\"error\":" + quoted(error.toString()) + "}";
        }
    }

    private static BodyPublisher body(String framing, Path content) throws IOException {
        switch (framing) {
            case "none":
                return BodyPublishers.noBody();
            case "chunked":
                var stream = Files.newInputStream(content);
                return BodyPublishers.ofInputStream(() -> stream);
            default:
                return BodyPublishers.ofFile(content);
        }
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
