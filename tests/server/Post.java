import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Posts files as signed webhooks with Java's HttpClient as it is by default: Post URL HEADER (FILE SIGNATURE)... */
class Post {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int place = 2; place < arguments.length; place += 2) {
            byte[] body = Files.readAllBytes(Path.of(arguments[place]));
            var request = HttpRequest.newBuilder(URI.create(arguments[0])).header(arguments[1], arguments[place + 1]);
            var chunked = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
            for (var each : Arrays.asList(
                    request.copy().POST(BodyPublishers.ofByteArray(body)),
                    request.copy().POST(chunked),
                    request.copy().POST(BodyPublishers.ofByteArray(body)).expectContinue(true))) {
                var answer = client.send(each.build(), BodyHandlers.ofString());
                System.out.println(answer.version() + " " + answer.statusCode() + answer.body());
            }
        }
    }
}
