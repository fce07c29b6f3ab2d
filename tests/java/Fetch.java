import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;

/** Saves what is at an address: {@code java Fetch URL FILE}. Compiled: javac --release 11 -g:none Fetch.java. */
class Fetch {
  public static void main(String[] arguments) throws Exception {
    HttpClient client =
        HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
    HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
    HttpResponse<Path> answer =
        client.send(request, HttpResponse.BodyHandlers.ofFile(Path.of(arguments[1])));
    if (answer.statusCode() != 200) {
      System.err.println(answer.statusCode());
      System.exit(1);
    }
  }
}
