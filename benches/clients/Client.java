import java.io.FileInputStream;
import java.net.URL;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Java's JSSE: Client URL CA; without arguments, its version. */
public class Client {
    public static void main(String[] words) throws Exception {
        if (words.length == 0) {
            System.out.println(System.getProperty("java.version"));
            return;
        }
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry(
                "ca", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(words[1])));
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        HttpsURLConnection connection = (HttpsURLConnection) new URL(words[0]).openConnection();
        connection.setSSLSocketFactory(context.getSocketFactory());
        System.exit(connection.getResponseCode() == 200 ? 0 : 1);
    }
}
